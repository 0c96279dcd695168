"""PointRend: masks whose uncertain points are predicted one by one."""
