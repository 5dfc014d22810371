"""The numbers of a training in Weights & Biases and in MLflow.

Their own Keras callbacks know no training that is resumed, and read the optimizer as TensorFlow
has it. These keep the id of their run in the training's folder and log what the others have put
into the logs, on every backend.
"""

import importlib
import json
import os
from pathlib import Path

import keras

from keras_gflv2.annotations import PathLike
from keras_gflv2.files import written_whole

IDS_FILE = "experiments.json"
PROJECT = "keras-gflv2"
MAX_PARAMETER = 500  # characters of a value in MLflow


class ExperimentLog(keras.callbacks.Callback):
    """Logs every epoch to a service for experiments. Put it after the callbacks that add numbers.

    A training in several calls of `fit`, or of several processes one after another, is one run
    there.

    Args:
        directory: folder of the training, where the run's id is kept; its name is the run's.
        config: {name: value} of the training, for the service to show.

    Raises:
        ImportError: the package of the service is not installed.
    """

    package = ""

    def __init__(self, directory: PathLike, config: dict | None = None):
        super().__init__()
        self.directory = Path(directory)
        self.config = dict(config or {})
        try:
            self.service = importlib.import_module(self.package)
        except ImportError as error:
            raise ImportError(
                f"{type(self).__name__} needs {self.package}: "
                f"pip install 'keras-gflv2[{self.package}]'."
            ) from error

    def on_train_begin(self, logs=None):
        self.begin()

    def on_epoch_end(self, epoch, logs=None):
        self.log({name: float(value) for name, value in (logs or {}).items()}, epoch)

    def on_train_end(self, logs=None):
        self.end()

    def add_files(self, paths):
        """Adds files to the run when the training is over."""
        self.begin()
        for path in paths:
            self.add_file(Path(path))
        self.end()

    def begin(self):
        """Begins the run, or goes on with it."""
        raise NotImplementedError

    def log(self, numbers, epoch):
        """Logs {name: float} of an epoch."""
        raise NotImplementedError

    def add_file(self, path):
        """Adds a file to the run that was begun."""
        raise NotImplementedError

    def end(self):
        """Ends the run for now."""
        raise NotImplementedError

    @property
    def run_id(self):
        """The run's id in the service, None before there is one."""
        return self._ids().get(self.package)

    @run_id.setter
    def run_id(self, value):
        ids = {**self._ids(), self.package: value}
        self.directory.mkdir(parents=True, exist_ok=True)
        with written_whole(self.directory / IDS_FILE) as temporary:
            temporary.write_text(json.dumps(ids, indent=2), encoding="utf-8")

    def _ids(self):
        path = self.directory / IDS_FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


class WandbLog(ExperimentLog):
    """Logs every epoch to Weights & Biases.

    Its environment variables hold: WANDB_MODE=offline writes to `directory` alone, for
    `wandb sync`; WANDB_PROJECT names the project ("keras-gflv2" if not).

    Args:
        directory, config: see `ExperimentLog`.
        **options: of `wandb.init`.
    """

    package = "wandb"

    def __init__(self, directory: PathLike, config: dict | None = None, **options):
        super().__init__(directory, config)
        self.options = options
        self._run = None

    def begin(self):
        options = {
            "project": os.environ.get("WANDB_PROJECT", PROJECT),
            "name": self.directory.name,
            "dir": str(self.directory),
            "config": self.config,
            **self.options,
        }
        self._run = self.service.init(id=self.run_id, resume="allow", **options)
        self.run_id = self._run.id

    def log(self, numbers, epoch):
        self._run.log({"epoch": epoch, **numbers})

    def add_file(self, path):
        if path.suffix == ".png":
            self._run.log({path.stem: self.service.Image(str(path))})
        else:
            self._run.save(str(path), base_path=str(path.parent), policy="now")

    def end(self):
        self._run.finish()


class MLflowLog(ExperimentLog):
    """Logs every epoch to MLflow.

    Its environment variables hold: MLFLOW_TRACKING_URI says where to, a server or a local file
    such as sqlite:///mlflow.db; MLFLOW_EXPERIMENT_NAME names the experiment ("keras-gflv2" if not).

    Args:
        directory, config: see `ExperimentLog`.
    """

    package = "mlflow"

    def begin(self):
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        if self.run_id is not None:
            self.service.start_run(run_id=self.run_id)
            return
        self.service.set_experiment(experiment)
        self.run_id = self.service.start_run(run_name=self.directory.name).info.run_id
        values = {name: str(value)[:MAX_PARAMETER] for name, value in self.config.items()}
        self.service.log_params(values)

    def log(self, numbers, epoch):
        self.service.log_metrics(numbers, step=epoch)

    def add_file(self, path):
        self.service.log_artifact(str(path))

    def end(self):
        self.service.end_run()
