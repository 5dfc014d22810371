"""What figures are of: the processor, the number of threads, and versions."""

import datetime
import importlib.metadata
import os
import platform
import re
from pathlib import Path

PACKAGES = {
    "tensorflow": "tensorflow",
    "jax": "jax",
    "torch": "torch",
    "saved_model": "tensorflow",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai-edge-litert",
}


def describe():
    """{"date", "python", "keras", "cpu", "threads"}"""
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "keras": version("keras"),
        "cpu": processor(),
        "threads": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
    }


def processor():
    """Name of the processor, with its family and model where the name says little."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", text, re.MULTILINE))
    name = fields.get("model name", platform.machine())
    return f"{name}, family {fields.get('cpu family')}, model {fields.get('model')}"


def version_of(subject):
    """Name and version of what runs a subject: the first package that its name speaks of."""
    found = [package for word, package in PACKAGES.items() if word in subject.lower()]
    return f"{found[0]} {version(found[0])}" if found else ""


def version(package):
    """Version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
