"""Plain text in aligned columns. Pure; ASCII only, never wrapped."""


def columns(rows, right=(), gap="  "):
    """Rows of texts -> lines whose columns line up.

    :param right: numbers of the columns that are aligned to the right.
    """
    rows = [[str(cell) for cell in row] for row in rows]
    width = [max((len(row[n]) for row in rows if n < len(row)), default=0) for n in range(max(map(len, rows), default=0))]
    return [gap.join(cell.rjust(width[n]) if n in right else cell.ljust(width[n]) for n, cell in enumerate(row)).rstrip()
            for row in rows]


def seconds(value):
    """A duration as a person reads it: '31 ms', '0.4 s', '2 min 05 s', '1 h 12 min'; '-' for None."""
    if value is None:
        return "-"
    value = max(0.0, value)
    if 0 < value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 99.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def milliseconds(value):
    """'47.3 ms', '1.5 s'; '-' for None."""
    if value is None:
        return "-"
    return f"{value:.1f} ms" if value < 1000 else f"{value / 1000:.1f} s"
