from dataclasses import replace

import numpy as np

from edgekd.export.record import Recording, Session, Trajectory
from edgekd.export.trajectory_files import load_trajectory, save_trajectory

SESSION = Session(prompts=("cat", "dog"), steps=2, guidance_scale=3.5, seed=7)


def _trajectory() -> Trajectory:
    call = Recording(
        {"z": np.arange(3), "a": np.array(500.0, np.float32)},
        {"hidden_states.1": np.ones((2, 3), np.float16)},
        499.5,
    )
    images = np.zeros((2, 4, 4, 3), np.float32)
    calls = {"unet": [call, replace(call, timestep=None)]}
    return Trajectory(calls, images, SESSION)


def test_a_trajectory_comes_back_as_it_was(tmp_path):
    elsewhere = SESSION.model_copy(update={"size": (32, 64), "images_per_prompt": 3})
    other = replace(_trajectory(), session=elsewhere)
    trajectory = replace(_trajectory(), other=other)
    save_trajectory(trajectory, tmp_path / "t")
    loaded = load_trajectory(tmp_path / "t")
    assert loaded.other is not None
    for before, after in ((trajectory, loaded), (other, loaded.other)):
        assert after.session == before.session
        np.testing.assert_array_equal(after.images, before.images)
        assert [call.timestep for call in after.recordings["unet"]] == [499.5, None]
        for call, again in zip(before.recordings["unet"], after.recordings["unet"], strict=True):
            for values, found in ((call.inputs, again.inputs), (call.outputs, again.outputs)):
                assert list(found) == list(values)  # the order is the part's own
                for name, value in values.items():
                    np.testing.assert_array_equal(found[name], value)
                    assert found[name].dtype == value.dtype
                    assert found[name].shape == value.shape
    assert len(loaded.calls("unet")) == 4
