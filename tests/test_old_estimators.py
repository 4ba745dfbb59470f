"""Files that earlier versions of the library wrote: they load, and predict as they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlce import Classifier, Regressor

FILES = Path(__file__).parent / "files"
STORED = np.load(FILES / "estimators.npz")
NAMES = sorted({key.partition("/")[0] for key in STORED.files} - {"inputs"})


def test_every_file_is_held() -> None:
    assert sorted(path.stem for kind in ("classifier", "regressor") for path in FILES.glob(f"{kind}-*")) == NAMES
    assert len(NAMES) == 9


@pytest.mark.parametrize("name", NAMES)
def test_an_old_file_predicts_as_it_did(name: str, tmp_path: Path) -> None:
    kind = Classifier if name.startswith("classifier") else Regressor
    loaded = kind.load(FILES / f"{name}.safetensors")
    assert loaded.scaling == "standard"  # it was called standardize=True
    loaded.save(tmp_path / "again")
    X = STORED["inputs"]
    methods = [key.partition("/")[2] for key in STORED.files if key.startswith(f"{name}/")]
    assert "predict" in methods
    for method in methods:
        arguments = (0.75,) if method == "predict_interval" else ()
        for one in (loaded, kind.load(tmp_path / "again")):
            found, expected = getattr(one, method)(X, *arguments), STORED[f"{name}/{method}"]
            assert found.dtype == expected.dtype
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
            else:
                np.testing.assert_array_equal(found, expected)
    assert loaded.n_epochs_ == 5
    y = np.asarray(loaded.predict(X))
    assert loaded.partial_fit(X, y).n_epochs_ == 6
