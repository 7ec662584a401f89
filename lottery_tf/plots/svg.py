"""Puts figures into an HTML page: SVG in the page's colours, that needs nothing from outside."""

import functools
import html
import io
import re
from collections.abc import Callable

import matplotlib
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from lottery_tf.plots import parts

INK = "#123456"  # stands for the colour of the page's text
LINE = "#666666"  # of parts.horizontal
DOTS_PER_INCH = 96  # of CSS
STYLE = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "figure.facecolor": "none",
    "font.size": 9,
    "axes.titlesize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.fonttype": "none",  # letters stay letters, in the page's font
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
# What is of no use inside a page, means something for all of it, or must be in it only once.
USELESS = re.compile(
    r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->"
    r'|(?<=<g) id="[^"]*"',
    re.DOTALL,
)


def inline(
    draw: Callable[[], Figure], *, label: str, size: tuple[float, float] | None = None
) -> str:
    """Return the <svg> element of a figure, for a page whose style has class "chart" and colours.

    The label says what it shows, for those who do not see it; of one page, each has its own. The
    size is in inches, by default the figure's.
    """
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": label}):
        figure = draw()
        if size:
            figure.set_size_inches(*size)
        for mesh in figure.findobj(QuadMesh):  # the scale of colours: 256 paths else
            mesh.set_rasterized(True)
        file = io.StringIO()
        figure.savefig(file, format="svg", dpi=DOTS_PER_INCH, transparent=True)
    text = file.getvalue()
    text = USELESS.sub("", text[text.index("<svg") :])
    # Two digits of a coordinate are enough.
    shorter = functools.partial(re.sub, r"(\.\d\d)\d+", r"\1")
    text = re.sub(r'(?<= )(d|x|y)="[^"]*"', lambda match: shorter(match[0]), text)
    text = text.replace(INK, "currentColor")
    for index, colour in enumerate(parts.COLOURS):  # on a dark page they are lighter
        text = text.replace(colour.lower(), f"var(--curve-{index})")
    text = text.replace(LINE, "var(--soft)")
    width = round(figure.get_figwidth() * DOTS_PER_INCH)
    (view,) = re.findall(r'viewBox="[^"]*"', text[: text.index(">")])
    start = f'<svg class="chart" role="img" aria-label="{html.escape(label)}" width="{width}"'
    return f"{start} {view}" + text[text.index(">") :].strip()
