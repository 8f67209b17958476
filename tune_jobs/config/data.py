"""Which data a study uses."""

from dataclasses import dataclass, replace
from pathlib import Path

from edgenes.data.dataset import Dataset
from edgenes.data.loading import load_data
from edgenes.data.sources import SOURCES
from edgenes.validation import check_at_least


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data set, and how its images are read."""

    dataset: str = "digits"
    """digits, cifar10, cifar100, fashionmnist, an .npz, or a folder of pictures."""
    root: Path | None = None
    """Folder of torchvision's data sets."""
    download: bool = False
    """Let torchvision download a data set that is not there."""
    image_size: int | None = None
    """Resize images to this many pixels a side."""
    images: int | None = None
    """Training images to use, drawn class by class; by default all."""
    flip: bool | None = None
    """Mirror images for augmentation; by default only the photo data sets."""
    skip_broken: bool = False
    """Leave out pictures that cannot be read, and list them."""

    def __post_init__(self):
        if self.images is not None:
            check_at_least(self, 1, "images")

    def located(self) -> "DataOptions":
        """The same with absolute paths: what is stored is read in other folders too."""
        path = Path(self.dataset).expanduser()
        dataset = self.dataset if self.dataset in SOURCES or not path.exists() else str(path.absolute())
        return replace(self, dataset=dataset, root=self.root and self.root.expanduser().absolute())

    def load(self) -> Dataset:
        """The data set; raises DataError if it is not there or does not fit."""
        return load_data(
            self.dataset,
            self.root,
            self.download,
            self.image_size,
            flip=self.flip,
            images=self.images,
            skip_broken=self.skip_broken,
        )
