"""A folder in, a model on the Hugging Face Hub or on Kaggle out."""

import re

from keras_gflv2.checkpoints.errors import describe

PACKAGES = {"hf": "huggingface_hub", "kaggle": "kagglehub"}
FORMS = {"hf": "hf://USER/NAME", "kaggle": "kaggle://USER/NAME/keras/VARIATION"}
PARTS = {"hf": 2, "kaggle": 4}
# As Kaggle spells them.
KAGGLE_LICENSES = {
    "apache-2.0": "Apache 2.0",
    "mit": "MIT",
    "cc-by-4.0": "Attribution 4.0 International (CC BY 4.0)",
    "cc-by-sa-4.0": "Attribution-ShareAlike 4.0 International (CC BY-SA 4.0)",
    "cc0-1.0": "CC0: Public Domain",
}


class UploadError(OSError):
    """A folder could not be put on a hub."""


def parse_handle(handle):
    """("hf" or "kaggle", the name there) of a handle.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(hf|kaggle)://([^\s/]+(?:/[^\s/]+)+)", str(handle))
    if not found or len(found[2].split("/")) != PARTS[found[1]]:
        raise ValueError(f"{str(handle)!r} is no handle of a hub: {' or '.join(FORMS.values())}.")
    return found.groups()


def check_upload(handle):
    """Raises before anything is written: ValueError for no handle, ImportError for no package."""
    scheme, _ = parse_handle(handle)
    try:
        return __import__(PACKAGES[scheme])
    except ImportError as error:
        raise ImportError(
            f"{handle} needs {PACKAGES[scheme]}: pip install 'keras-gflv2[hub]'."
        ) from error


def upload(directory, handle, *, license=None, private=False, message=None):
    """Puts the files of a folder on a hub, as a new version where there is one.

    Args:
        directory: the folder.
        handle: "hf://USER/NAME" or "kaggle://USER/NAME/keras/VARIATION".
        license: identifier such as "apache-2.0", which Kaggle shows; the Hugging Face Hub reads
            it from the model card.
        private: whether a new repository of the Hugging Face Hub is private. Kaggle's models are,
            until they are published there.
        message: of the version.

    Returns:
        Address of its page.

    Raises:
        ValueError, ImportError: see `check_upload`.
        UploadError: the hub did not take it; the message says what to check.
    """
    scheme, name = parse_handle(handle)
    hub = check_upload(handle)
    message = message or "Upload of a keras_gflv2 detector"
    try:
        if scheme == "hf":
            hub.HfApi().create_repo(name, private=private, exist_ok=True, repo_type="model")
            hub.HfApi().upload_folder(
                repo_id=name, folder_path=str(directory), commit_message=message
            )
            return f"https://huggingface.co/{name}"
        license = KAGGLE_LICENSES.get(license, license)
        hub.model_upload(name, str(directory), license_name=license, version_notes=message)
        return f"https://www.kaggle.com/models/{'/'.join(name.split('/')[:2])}"
    except Exception as error:  # each library has errors of its own, and of its HTTP client
        login = {"hf": "hf auth login", "kaggle": "kagglehub.login()"}[scheme]
        raise UploadError(
            f"{handle} could not be written ({describe(error)}). Check the name, the network and "
            f"that you are logged in, by `{login}`, with the right to write."
        ) from error
