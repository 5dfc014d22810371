"""Reproduces the tables of the GFLV2 paper: Tables 1 to 6 and 8.

    python examples/reproduce.py all --small --output small
    python examples/reproduce.py 4 --data coco:COCO --recipe 1x --devices 8 --output table4
    python examples/reproduce.py --help

What it does is in `keras_gflv2/reproduction/`; what it found is in docs/reproduce.md.
"""

import sys

from keras_gflv2.reproduction.command import main

if __name__ == "__main__":
    sys.exit(main())
