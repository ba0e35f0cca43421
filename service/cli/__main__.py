"""``python -m service.cli`` is ``detserve``."""

from service.cli.main import main

main()
