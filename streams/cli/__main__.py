"""`python -m streams.cli`: the `parcels` command where the package is not installed."""

from streams.cli.app import main

main()
