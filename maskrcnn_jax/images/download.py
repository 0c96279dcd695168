"""An image from the web, of a limited size and within a limited time."""

import http.client
import time
import urllib.request

_MOST = 256 * 2**20  # bytes
_SILENCE = 20.0  # seconds without a byte
_LONGEST = 120.0  # seconds in all
_CHUNK = 2**18
# Some hosts answer nothing to a program that does not say what it is.
_HEADERS = {"User-Agent": "maskrcnn-jax (+https://pypi.org/project/maskrcnn-jax)"}


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirections to the web alone; urllib would follow one to FTP."""

    def redirect_request(self, request, file, code, message, headers, address):
        if not address.startswith(("http://", "https://")):
            raise ValueError(f"it leads to {address}")
        return super().redirect_request(request, file, code, message, headers, address)


def download(address: str, most: int = _MOST, longest: float = _LONGEST) -> bytes:
    """Returns what an address gives.

    Args:
        address: http:// or https://.
        most: bytes; more are refused, before they are read where the host says how many there are.
        longest: seconds in all.

    Raises:
        OSError: naming the address and what went wrong.
    """
    start, content = time.monotonic(), bytearray()
    try:
        request = urllib.request.Request(address, headers=_HEADERS)
        with urllib.request.build_opener(_WebOnly).open(request, timeout=_SILENCE) as response:
            announced = int(response.headers.get("Content-Length") or 0)
            _check_size(announced, most)
            while chunk := response.read1(_CHUNK):
                content += chunk
                _check_size(len(content), most)
                if time.monotonic() - start > longest:
                    raise TimeoutError(f"it has not ended after {longest:g} seconds")
        if len(content) < announced:  # a connection that was closed early looks like an end
            raise ValueError(f"it ended after {len(content)} of {announced} bytes")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise OSError(f"{address} could not be downloaded: {str(error).rstrip('.')}") from error
    return bytes(content)


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise ValueError(f"it has more than {most / 2**20:g} MiB")
