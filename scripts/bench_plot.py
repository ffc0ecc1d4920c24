"""Line plots as SVG."""

import math
from html import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 64, 56
COLOURS = ["#d2691e", "#1f5fbf", "#7f7f7f", "#2e8b57", "#8b3a8b"]


class Axis:
    """Maps values to pixels and says where its ticks are."""

    def __init__(self, values, begin, end, log, names=None):
        self.begin, self.end, self.log, self.names = begin, end, log, names
        low, high = min(values), max(values)
        if names:
            self.low, self.high = -0.3, len(names) - 0.7
        elif log:
            # A little air, so that no line runs along the frame.
            self.low, self.high = math.log10(low) - 0.08, math.log10(high) + 0.08
        else:
            self.low, self.high = 0, (high or 1) * 1.05

    def __call__(self, value):
        at = math.log10(value) if self.log else value
        return self.begin + (at - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self):
        if self.names:
            return list(enumerate(self.names))
        if self.log:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            # The fewer decades, the more ticks in each.
            steps = [1] if self.high - self.low > 3 else [1, 2, 5]
            places = [step * 10.0**decade for decade in decades for step in steps]
            return [(at, label(at)) for at in places if self.low <= math.log10(at) <= self.high]
        step = 10 ** math.floor(math.log10(self.high))
        step = next(step * part for part in (0.1, 0.2, 0.5, 1, 2) if self.high / (step * part) <= 8)
        return [(n * step, label(n * step)) for n in range(int(self.high / step) + 1)]


def label(value):
    for size, unit in [(1e6, " M"), (1e3, " k")]:
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def plot(title, x_label, y_label, series, x_names=None, log_y=True, log_x=True):
    """`series` maps names to lists of (x, y); with `x_names`, x counts those."""
    points = [point for line in series.values() for point in line]
    x = Axis([p[0] for p in points], LEFT, WIDTH - RIGHT, log_x and not x_names, x_names)
    y = Axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, log_y)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, title, size=15),
    ]
    for at, name in y.ticks():
        out.append(line(LEFT, y(at), WIDTH - RIGHT, y(at), "#ddd"))
        out.append(text(LEFT - 6, y(at) + 4, name, anchor="end"))
    for at, name in x.ticks():
        out.append(line(x(at), TOP, x(at), HEIGHT - BOTTOM, "#ddd"))
        out.append(text(x(at), HEIGHT - BOTTOM + 18, name, anchor="middle"))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label, anchor="middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(text(18, middle, y_label, anchor="middle", turn=f' transform="rotate(-90 18 {middle})"'))
    legend = LEFT
    for (name, values), colour in zip(series.items(), COLOURS):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in values)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5" fill="{colour}"/>' for a, b in values]
        out.append(line(legend, 42, legend + 22, 42, colour, width=3))
        out.append(text(legend + 28, 46, name))
        legend += 52 + 7 * len(name)
    return "\n".join([*out, "</svg>", ""])


def line(x1, y1, x2, y2, colour, width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def text(x, y, words, size=12, anchor="start", turn=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{turn}>{escape(words)}</text>'
