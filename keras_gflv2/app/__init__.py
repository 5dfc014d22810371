"""A page to try a detector in a browser: `keras-gflv2 app`.

`serving.check_installed` says whether the libraries that `server` imports are there.
"""
