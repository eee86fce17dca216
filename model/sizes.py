"""Numbers of bytes as people read them."""


def shown_size(size: int) -> str:
    """Decimal units, three digits."""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"
