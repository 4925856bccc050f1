"""``python -m service`` is ``lmht``."""

from service.cli import main

main()
