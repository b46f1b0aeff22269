"""Write the tables of the pages anew from committed results: python -m benchmarks.report

Between the marks <!-- NAME --> and <!-- end --> a page holds what this command makes of benchmarks/results; the rest of
it is written by hand.
"""
from ..common.results import ROOT
from .blocks import fill
from .plot import draw_gains

NAMES = ('results', 'results_appendix', 'models', 'policies', 'distillation')
PAGES = (*(ROOT / 'docs' / f'{name}.md' for name in NAMES), ROOT / 'README.md')


def main() -> None:
    """Write the pages and the plot."""
    draw_gains(ROOT / 'docs' / 'gains.png')
    for page in PAGES:
        page.write_text(fill(page.read_text()))


if __name__ == '__main__':
    main()
