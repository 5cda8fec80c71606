"""Taking out of a picture what names a patient, besides the pixels themselves.

Of a DICOM object by the Basic Application Level Confidentiality Profile (PS3.15 Annex E): each of
the elements of its table E.1-1 is removed, emptied, replaced by a dummy or, a UID, by another one,
in every item of every sequence; private elements and those that no dictionary knows are removed.
UIDs are replaced alike wherever they are met, in all commands of one user, so that studies and
series stay together. Names burnt into the pixels stay: the profile's option to clean them is not
applied.
"""

import copy
import dataclasses
import functools
import secrets
from collections.abc import Iterator

from dicomanonymizer import simpledicomanonymizer as library
from pydicom.datadict import dictionary_has_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import generate_uid

from lle_jax.files import state_folder, write_bytes
from lle_jax.images.dicom import naming_elements
from lle_jax.images.errors import ImageError, naming, quiet
from lle_jax.images.picture import Picture

_EDITION = "2026c"  # of the table
_KEY_BYTES = 32
# Patient's Birth Date, Death Date and Calendar in an alternative calendar, which the table lacks
_BESIDES = 0x00100033, 0x00100034, 0x00100035


def anonymise(picture: Picture) -> Picture:
    """The same pixels without EXIF and, of DICOM, with nothing that the profile takes out.

    Raises:
      ImageError: if an element cannot be read or made anonymous, without its value.
    """
    dataset = picture.dataset
    if dataset is not None:
        failed = "it cannot be anonymised; export the object again"
        with quiet(), naming(picture.path, failed), naming_elements(dataset):
            dataset = _dataset(dataset)
    return dataclasses.replace(picture, exif=None, dataset=dataset)


def _dataset(source: Dataset) -> Dataset:
    dataset = copy.deepcopy(source)
    _set_uids(dataset)
    for part in list(_parts(dataset)):
        for element in list(part):
            if element.tag in _BESIDES or not dictionary_has_tag(element.tag):  # private ones too
                del part[element.tag]
        empty = [element.tag for element in part if element.VM == 0]
        try:
            library.anonymize_dataset(part, base_rules_gen=_actions)
        except NotImplementedError as error:
            raise ImageError(f"it cannot be anonymised: {error}") from None
        for tag in empty:  # what said nothing needs no dummy
            if tag in part:
                part[tag].value = None
    # the library's dummies are of year 1, which validators refuse
    for element in dataset.iterall():
        if element.VR in ("DA", "DT") and str(element.value).startswith("0001"):
            element.value = "19000101"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"Basic profile of DICOM PS3.15 {_EDITION}"
    method = Dataset()
    method.CodeValue, method.CodingSchemeDesignator = "113100", "DCM"
    method.CodeMeaning = "Basic Application Confidentiality Profile"
    dataset.DeidentificationMethodCodeSequence = [method]
    # the derived object is to refer to the instance's new UID, never to the old one
    dataset.file_meta = copy.deepcopy(source.file_meta)
    dataset.file_meta.pop("MediaStorageSOPInstanceUID", None)
    return dataset


def _set_uids(dataset: Dataset) -> None:
    """Tells the library by what to replace each UID; it would draw one for each process."""
    library.dictionary.clear()
    for element in dataset.iterall():
        if element.VR == "UI":
            for uid in element.value if isinstance(element.value, MultiValue) else [element.value]:
                library.dictionary[uid] = generate_uid(entropy_srcs=[_key().hex(), str(uid)])


@functools.cache  # where none can be kept, one lasts as long as the process
def _key() -> bytes:
    """The user's secret, without which nobody can tell a UID from the one that replaces it."""
    try:
        path = state_folder() / "anonymise.key"
        if not path.exists() or path.stat().st_size < _KEY_BYTES:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, secrets.token_bytes(_KEY_BYTES), mode=0o600)
        return path.read_bytes()
    except (RuntimeError, OSError):
        return secrets.token_bytes(_KEY_BYTES)


@functools.cache  # asked for by every item of every sequence
def _actions() -> dict:
    """What to do with each element of the table."""
    actions = library.initialize_actions(f"dicomfields_{_EDITION}")
    return {tag: functools.partial(_act, action) for tag, action in actions.items()}


def _act(action, dataset: Dataset, tag) -> None:
    """Applies the table; the library would leave sequences with items of empty elements."""
    element = dataset.get(tag)
    if element is not None and element.VR == "SQ":
        if action is library.empty:
            element.value = []
        elif action is library.delete_or_empty:
            del dataset[tag]
        elif action is not library.delete_or_empty_or_replace_UID:  # the items' own UIDs are
            action(dataset, tag)
    else:
        action(dataset, tag)


def _parts(dataset: Dataset) -> Iterator[Dataset]:
    """The data set and the items of all its sequences, the innermost first."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _parts(item)
    yield dataset
