"""`python -m tools COMMAND` in a checkout is `lottery COMMAND`."""

from . import main

main()
