"""Plots as SVG, by hand: lines and bars with axes, readable on any background."""

import html
import math

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50
COLOURS = {"muster": "#0b6e4f", "dnsmasq": "#c84630", "isc": "#5b5fc7", "kea": "#b07d12", "gso": "#666666"}


def text(x, y, words, anchor="middle", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{html.escape(str(words))}</text>'


def page(title, body):
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" role="img">'
    return "\n".join([head, f"<title>{html.escape(title)}</title>", '<rect width="100%" height="100%" fill="white"/>', text(LEFT, 22, title, "start", 'font-size="15"'), *body, "</svg>\n"])


def nice(limit, steps=6):
    """Round ticks from 0 up to the limit."""
    raw = max(limit, 1e-9) / steps
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [round(n * step, 10) for n in range(int(limit / step) + 1)]


def axes(x_label, y_label):
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    return [
        f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="black"/>',
        text((LEFT + right) / 2, HEIGHT - 12, x_label),
        text(16, (TOP + bottom) / 2, y_label, more=f'transform="rotate(-90 16 {(TOP + bottom) / 2:.0f})"'),
    ]


def lines(title, x_label, y_label, series, x_log=False, y_log=False):
    """`series`: (colour key, name, points); logarithmic axes leave out what is not above zero."""
    series = [(key, name, [(x, y) for x, y in points if (x > 0 or not x_log) and (y > 0 or not y_log)]) for key, name, points in series]
    xs, ys = ([point[axis] for _, _, points in series for point in points] or [1] for axis in (0, 1))

    def scale(values, log, low, high):
        if log:
            first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
            last = max(last, first + 1)
            return lambda v: low + (math.log10(v) - first) / (last - first) * (high - low), [10.0**n for n in range(first, last + 1)]
        top = max(values) or 1
        return lambda v: low + v / top * (high - low), nice(top)

    x_at, x_ticks = scale(xs, x_log, LEFT, WIDTH - RIGHT)
    y_at, y_ticks = scale(ys, y_log, HEIGHT - BOTTOM, TOP)
    body = axes(x_label, y_label)
    for tick in x_ticks:
        body += [f'<path d="M{x_at(tick):.1f} {HEIGHT - BOTTOM}v5" stroke="black"/>', text(x_at(tick), HEIGHT - BOTTOM + 18, f"{tick:g}")]
    for tick in y_ticks:
        body += [f'<path d="M{LEFT} {y_at(tick):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>', text(LEFT - 6, y_at(tick) + 4, f"{tick:g}", "end")]
    for n, (key, name, points) in enumerate(series):
        colour = COLOURS.get(key, "black")
        path = "".join(f"{'L' if n else 'M'}{x_at(x):.1f} {y_at(y):.1f}" for n, (x, y) in enumerate(points))
        body += [f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>', *legend(n, colour, name)]
    return page(title, body)


def legend(n, colour, name):
    x, y = WIDTH - RIGHT + 16, TOP + 12 + 20 * n
    return [f'<rect x="{x}" y="{y - 9}" width="12" height="10" fill="{colour}"/>', text(x + 18, y, name, "start")]


def bars(title, y_label, groups):
    """`groups`: (name, [(colour key, name, value)])."""
    top = max((value for _, group in groups for _, _, value in group), default=1) or 1
    y_at = lambda v: HEIGHT - BOTTOM - v / top * (HEIGHT - BOTTOM - TOP - 12)  # noqa: E731
    body = axes("", y_label)
    for tick in nice(top):
        body += [f'<path d="M{LEFT} {y_at(tick):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>', text(LEFT - 6, y_at(tick) + 4, f"{tick:g}", "end")]
    room, names = (WIDTH - LEFT - RIGHT) / max(len(groups), 1), {}
    for g, (group_name, group) in enumerate(groups):
        width = room * 0.8 / max(len(group), 1)
        body.append(text(LEFT + room * (g + 0.5), HEIGHT - BOTTOM + 18, group_name))
        for b, (key, name, value) in enumerate(group):
            x, colour = LEFT + room * (g + 0.1) + width * b, COLOURS.get(key, "black")
            names[name] = colour
            body.append(f'<rect x="{x:.1f}" y="{y_at(value):.1f}" width="{width * 0.9:.1f}" height="{HEIGHT - BOTTOM - y_at(value):.1f}" fill="{colour}"/>')
            body.append(text(x + width * 0.45, y_at(value) - 4, f"{value:.2g}", more='font-size="11"'))
    for n, (name, colour) in enumerate(names.items()):
        body += legend(n, colour, name)
    return page(title, body)
