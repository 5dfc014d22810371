"""`python -m keras_gflv2.reproduction`."""

import sys

from keras_gflv2.reproduction.command import main

if __name__ == "__main__":
    sys.exit(main())
