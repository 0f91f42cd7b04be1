"""The jobs of a data folder that is kept, and what later versions must find of them."""

import contextlib
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "e2e"))
sys.path.insert(0, str(HERE.parents[1] / "e2e/durable"))

import cluster
import datasets
import recommender_test
from cluster import digits_job
from lives import Lives

ROUNDS = 30
# Enough for arrays that are kept in files of their own.
WIDE_LAYERS = [{"linear": {"units": 260, "activation": "relu"}}, {"linear": {"units": 10}}]


def paused_jobs():
    """By name: jobs that are paused in the middle, one for each kind of state."""
    wide = digits_job(ROUNDS, method={"name": "rigl", "parameters": {"density": 0.95}})
    wide["model"]["layers"] = WIDE_LAYERS
    moments = digits_job(ROUNDS)
    del moments["training"]["local_epochs"]
    moments["training"]["local_steps"] = 20
    moments["training"]["optimizer"] = {"kind": "adam", "learning_rate": 0.002, "across_rounds": "average"}
    corrected = digits_job(ROUNDS, method={"name": "static", "parameters": {"density": 0.2}})
    corrected["training"] |= {"control_variates": True, "optimizer": {"kind": "sgd", "learning_rate": 0.05}}
    return {
        "paused-rigl": wide,
        "paused-moments": moments,
        "paused-corrected": corrected,
        "paused-imp": digits_job(10, method={"name": "imp", "parameters": {"levels": 3, "rewind_round": 1}}),
        "paused-dsl": recommender_test.job(rounds=ROUNDS, private=True),
    }


@contextlib.contextmanager
def fleet(folder, data_dir):
    """A cluster on `data_dir` whose workers have what the jobs train on, and keep in `folder`/workers what stays with them."""
    data = pathlib.Path(folder) / "sites"
    datasets.write_interactions(data / "likes", recommender_test.USERS, recommender_test.ITEMS, recommender_test.TASTES)
    shutil.copytree(cluster.DATA / "digits", data / "digits")
    with Lives(data_root=data, data_dir=data_dir) as own:
        for name in ("w1", "w2", "w3"):
            own.add_worker(name, arguments=("--state-dir", pathlib.Path(folder) / "workers" / name))
        yield own


def seen(own, job):
    """What must never change of a job that a version left."""
    events = own.events(job) if own.job(job)["state"] in ("SUCCEEDED", "FAILED", "CANCELLED") else []
    shown = own.job(job)
    return {key: shown[key] for key in ("state", "round", "model_hash", "best_round", "latest_checkpoint")} | {
        "events": [sorted(set(event) - {"time", "sequence"}) for event in events]
    }
