"""What a run would need of chips that are not there, told by the compilers for them."""
