"""Write the page on the command line from the commands themselves: `make docs`."""

import sys
from pathlib import Path

from anycalo.cli.main import COMMANDS, app, load


def page() -> str:
    """The whole page, in Markdown."""
    for command in COMMANDS:
        load(command)
    return "<!-- Made by `make docs`; edit the commands, not this page. -->\n" + app.generate_docs()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
