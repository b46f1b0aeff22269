"""Write tables and plots of docs/results.md and README.md anew from committed results: python -m benchmarks.report

Between the marks <!-- NAME --> and <!-- end --> a page holds what this command makes of benchmarks/results; the rest of
it is written by hand.
"""
import argparse

from ..common.results import ROOT
from .blocks import fill
from .pictures import draw_fidelity, draw_speed

DOCS = ROOT / 'docs'
NAMES = ('results', 'results_appendix', 'labels', 'models', 'policies', 'distillation')
PAGES = (*(DOCS / f'{name}.md' for name in NAMES), ROOT / 'README.md')


def main() -> None:
    """Write pages and plots."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for page in PAGES:
        page.write_text(fill(page.read_text()))
    draw_fidelity(DOCS / 'fidelity.png')
    draw_speed(DOCS / 'speed.png')


if __name__ == '__main__':
    main()
