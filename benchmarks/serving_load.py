"""Sustained load on a server: clients, pictures of mixed sizes, some of them bad.

    python benchmarks/serving_load.py --model saved_models/nano_bccd --images BCCD/JPEGImages

Starts the small server (examples/model_server.py) in front of the SavedModel, has clients ask
for some minutes and prints requests a second, latencies, failures, and the server's memory over
time. Appends a row to benchmarks/serving_load.csv.
"""

import argparse
import csv
import datetime
import io
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from keras_gflv2.serving import ServingClient

HERE = Path(__file__).parent
SERVER = HERE.parent / "examples" / "model_server.py"
SCALES = (0.5, 0.75, 1.0, 1.5)
BAD = (b"", b"<html>", b"\xff\xd8\xff\xe0 cut")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder NAME with versions")
    parser.add_argument("--images", required=True, help="folder of JPEG files")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--bad", type=float, default=0.05, help="share of bad files")
    parser.add_argument("--protocol", choices=("http", "grpc"), default="grpc")
    arguments = parser.parse_args()

    folder = Path(arguments.model)
    command = [sys.executable, SERVER, folder.name, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            urls = server.stdout.readline().split()[1:]
            url = next(url for url in urls if url.startswith(arguments.protocol))
            run(arguments, url, server.pid)
        finally:
            server.kill()


def run(arguments, url, pid):
    files = resized(sorted(Path(arguments.images).rglob("*.jpg"))[:50])
    stop, rows, memory = time.time() + arguments.seconds, [], []
    threads = [
        threading.Thread(target=ask, args=(url, files, arguments.bad, stop, seed, rows))
        for seed in range(arguments.clients)
    ]
    for thread in threads:
        thread.start()
    while time.time() < stop:
        memory.append(resident_mb(pid))
        time.sleep(5)
    for thread in threads:
        thread.join()
    report(arguments, rows, memory)


def resized(paths):
    """Each file at each scale, as JPEG."""
    contents = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        for scale in SCALES:
            stream = io.BytesIO()
            image.resize([round(side * scale) for side in image.size]).save(stream, "JPEG")
            contents.append(stream.getvalue())
    return contents


def ask(url, files, bad_share, stop, seed, rows):
    """Requests of 1 to 4 files until it is time; each a row (seconds, files, bad, wrong)."""
    client, rng = ServingClient(url, timeout=60), random.Random(seed)
    while time.time() < stop:
        bad = [rng.random() < bad_share for _ in range(rng.randint(1, 4))]
        batch = [rng.choice(BAD if is_bad else files) for is_bad in bad]
        start = time.time()
        try:
            found = client.detect(batch)
            wrong = sum((one["status"] == "ok") == is_bad for one, is_bad in zip(found, bad))
        except OSError as error:
            print(error, file=sys.stderr)
            wrong = len(batch)
        rows.append((time.time() - start, len(batch), sum(bad), wrong))


def resident_mb(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def report(arguments, rows, memory):
    seconds, files, bad, wrong = np.array(rows).T
    third = len(memory) // 3
    row = {
        "date": datetime.date.today().isoformat(),
        "model": Path(arguments.model).name,
        "protocol": arguments.protocol,
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "requests": len(rows),
        "files": int(files.sum()),
        "bad_files": int(bad.sum()),
        "wrong_answers": int(wrong.sum()),
        "median_seconds": round(float(np.median(seconds)), 3),
        "p99_seconds": round(float(np.percentile(seconds, 99)), 3),
        "memory_mb_second_third": round(float(np.median(memory[third : 2 * third]))),
        "memory_mb_last_third": round(float(np.median(memory[2 * third :]))),
        "memory_mb_max": round(max(memory)),
    }
    append(HERE / "serving_load.csv", row)


def append(file, row):
    """Prints a row and adds it to a CSV."""
    print(row)
    is_new = not file.exists()
    with open(file, "a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
