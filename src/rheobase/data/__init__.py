"""Samples for training, with classes or targets: event recordings, images and arrays, read in batches, time first."""

from rheobase.data.aedat import PolarityEvents, read_aedat
from rheobase.data.arrays import ArrayDataset
from rheobase.data.augment import (
    Augmentation,
    DropChannels,
    DropEvents,
    JitterChannels,
    Recording,
    ShiftChannels,
    ShiftTime,
    StretchTime,
    Zoom,
)
from rheobase.data.batches import batches, collate, collate_padded
from rheobase.data.camera_augment import FlipView, ShiftView
from rheobase.data.dataset import Dataset, Splits, split
from rheobase.data.event_datasets import EventDataset
from rheobase.data.event_files import read_events, write_events
from rheobase.data.events import Events, concatenate
from rheobase.data.gestures import dvs128_gesture
from rheobase.data.image_augment import Flip, ImageAugmentation, Perspective, PixelNoise, ShiftPixels
from rheobase.data.images import ImageDataset, Images, read_cifar10, read_idx
from rheobase.data.n_mnist_files import n_mnist, read_n_mnist, write_n_mnist
from rheobase.data.pixel_sequences import PixelSequences
from rheobase.data.points import draw_yin_yang, yin_yang
from rheobase.data.published import Progress, data_folder
from rheobase.data.recall import draw_delayed_recall
from rheobase.data.saccades import simulate_n_mnist
from rheobase.data.sources import cifar10, fashion_mnist, mnist, shd, spoken_digits, ssc
from rheobase.data.targets import TargetDataset
from rheobase.data.torch_datasets import from_torch
from rheobase.data.vectors import VectorDataset, Vectors

__all__ = [
    "ArrayDataset",
    "Augmentation",
    "Dataset",
    "DropChannels",
    "DropEvents",
    "EventDataset",
    "Events",
    "Flip",
    "FlipView",
    "ImageAugmentation",
    "ImageDataset",
    "Images",
    "JitterChannels",
    "Perspective",
    "PixelNoise",
    "PixelSequences",
    "PolarityEvents",
    "Progress",
    "Recording",
    "ShiftChannels",
    "ShiftPixels",
    "ShiftTime",
    "ShiftView",
    "Splits",
    "StretchTime",
    "TargetDataset",
    "VectorDataset",
    "Vectors",
    "Zoom",
    "batches",
    "cifar10",
    "collate",
    "collate_padded",
    "concatenate",
    "data_folder",
    "draw_delayed_recall",
    "draw_yin_yang",
    "dvs128_gesture",
    "fashion_mnist",
    "from_torch",
    "mnist",
    "n_mnist",
    "read_aedat",
    "read_cifar10",
    "read_events",
    "read_idx",
    "read_n_mnist",
    "shd",
    "simulate_n_mnist",
    "split",
    "spoken_digits",
    "ssc",
    "write_events",
    "write_n_mnist",
    "yin_yang",
]
