"""Whatever form images with labels come in, the features and labels are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from sslprune.errors import DatasetError
from sslprune.evaluate import features, knn_eval, linear_eval
from sslprune.evaluate.batches import batches, is_indexed, length
from sslprune.evaluate.features import extract_labelled
from sslprune.models import Preprocessing, build

PREPROCESSING = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 16)


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


@pytest.fixture(scope="module")
def net():
    return build("resnet20_cifar", seed=1)


IMAGES = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), np.uint8)
LABELS = np.arange(30) % 3
PAIRS = list(zip(IMAGES, LABELS.tolist(), strict=True))
FORMS = {
    "arrays": (IMAGES, LABELS),
    "a list of labels": (IMAGES, LABELS.tolist()),
    "tensors": (torch.from_numpy(IMAGES), torch.from_numpy(LABELS)),
    "Dataset of arrays": Items(PAIRS),
    "Dataset of PIL images": Items([(Image.fromarray(image), label) for image, label in PAIRS]),
    "TensorDataset": TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS)),
    "pre-processed Dataset": Items([(PREPROCESSING(image[None])[0], label) for image, label in PAIRS]),
    "DataLoader": DataLoader(Items(PAIRS), batch_size=7),
    "pre-processed DataLoader": DataLoader(Items([(PREPROCESSING(i[None])[0], y) for i, y in PAIRS]), batch_size=4),
    "stream": Stream(PAIRS),
    "DataLoader of a stream": DataLoader(Stream(PAIRS), batch_size=8),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(net, form):
    options = {"preprocessing": PREPROCESSING, "pool": 2}
    wanted, _ = extract_labelled(net, (IMAGES, LABELS), batch_size=7, **options)
    found, labels = extract_labelled(net, FORMS[form], batch_size=7, **options)
    assert found.keys() == wanted.keys()
    for stage, rows in found.items():
        torch.testing.assert_close(rows, wanted[stage])
    assert labels.tolist() == LABELS.tolist()
    torch.testing.assert_close(
        features(net, FORMS[form], preprocessing=PREPROCESSING), features(net, IMAGES, preprocessing=PREPROCESSING)
    )


@pytest.mark.parametrize("form", ["Dataset of PIL images", "DataLoader", "stream"])
def test_the_facade_takes_them(net, form):
    for evaluation in (linear_eval, knn_eval):
        wanted = evaluation(net, (IMAGES, LABELS), (IMAGES, LABELS), preprocessing=PREPROCESSING)
        assert evaluation(net, FORMS[form], FORMS[form], preprocessing=PREPROCESSING).accuracy == wanted.accuracy


def test_pictures_of_many_sizes_are_each_resized(net):
    pictures = [np.full((8 + row, 20, 3), 40 * row, np.uint8) for row in range(5)]
    together = features(net, Items(pictures), preprocessing=PREPROCESSING)
    alone = torch.cat([features(net, picture[None], preprocessing=PREPROCESSING) for picture in pictures])
    torch.testing.assert_close(together, alone)


def test_a_grey_picture_has_three_equal_channels(net):
    grey = IMAGES[:3, :, :, 0]
    pictures = Items([Image.fromarray(picture) for picture in grey])
    torch.testing.assert_close(
        features(net, pictures, preprocessing=PREPROCESSING),
        features(net, np.repeat(grey[..., None], 3, 3), preprocessing=PREPROCESSING),
    )


def test_an_order_chooses_and_arranges():
    order = [4, 2, 29]
    for form in ("arrays", "a list of labels", "tensors", "Dataset of arrays", "TensorDataset"):
        assert is_indexed(FORMS[form])
        assert length(FORMS[form]) == 30
        found = list(batches(FORMS[form], 2, order))
        assert [len(images) for images, _ in found] == [2, 1]
        assert torch.cat([labels for _, labels in found]).tolist() == LABELS[order].tolist()
        assert (torch.cat([images for images, _ in found]).numpy() == IMAGES[order]).all()
    assert not is_indexed(FORMS["DataLoader"])
    assert length(FORMS["DataLoader"]) == 30
    assert length(FORMS["stream"]) is None


def test_labels_that_are_missing_are_named(net):
    with pytest.raises(DatasetError, match="the train images have no labels"):
        linear_eval(net, Items(list(IMAGES)), (IMAGES, LABELS), preprocessing=PREPROCESSING)
    with pytest.raises(DatasetError, match="some have none"):
        linear_eval(net, Items([PAIRS[0], IMAGES[1]]), (IMAGES, LABELS), preprocessing=PREPROCESSING)
    with pytest.raises(DatasetError, match="tuple of 3"):
        features(net, Items([(IMAGES[0], 1, 2)]), preprocessing=PREPROCESSING)
    with pytest.raises(DatasetError, match="none at all"):
        features(net, Items([]), preprocessing=PREPROCESSING)
    with pytest.raises(DatasetError, match="differ in size"):
        features(net, Items([torch.zeros(3, 8, 8), torch.zeros(3, 9, 9)]))
