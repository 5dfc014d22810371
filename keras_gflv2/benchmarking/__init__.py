"""How fast a detector is, and what it costs: the parts of `keras-gflv2 benchmark`.

- `prepare`: in a process of its own, the detector as a file for all, its exports, its operations.
- `subjects`: what is timed: a detector on a backend, an exported file in its runtime.
- `worker`: a process with one subject, which runs a part of it when it is told to.
- `turns`: starts the workers, has them take turns and collects their times.
- `report`: rows to CSV and Markdown; `machine`: what the figures are of.
"""
