"""``python -m infra`` is the ``millrace`` command, for processes that start it themselves."""

from infra.cli import main

main()
