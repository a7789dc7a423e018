"""``python -m app`` is ``deepemotion``."""

from app.cli import main

main()
