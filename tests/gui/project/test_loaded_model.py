"""A loaded model: its networks' own thresholds are those of the window, as they are those of the command line."""

from napari_distill2label.store.bundle import load_bundle
from napari_distill2label.store.run import Run


def test_the_threshold_is_the_networks_own(session, run_folder):
    run = Run.open(run_folder)
    own = {network: load_bundle(run.bundle(network)).threshold for network in run.models}
    assert own["student"] != session.threshold  # a calibrated network has one of its own
    session.load_model(run_folder)
    assert session.threshold == own["student"]
    session.set_threshold(0.9)
    session.network = "teacher"
    assert session.threshold == own["teacher"]
    session.network = "student"
    assert session.threshold == own["student"]


def test_a_single_network(session, run_folder):
    bundle = Run.open(run_folder).bundle("teacher")
    session.load_model(bundle)
    assert session.threshold == load_bundle(bundle).threshold


def test_a_threshold_of_the_last_time_comes_back(session, run_folder):
    session.set_threshold(0.9)
    session.autosave.reopen_model(run_folder, "student")
    assert (session.network, session.threshold) == ("student", 0.9)
