"""`python -m keras_gflv2.cli`"""

import sys

from keras_gflv2.cli import main

if __name__ == "__main__":
    sys.exit(main())
