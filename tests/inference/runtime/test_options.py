import pytest
from support.models import identity_model
from support.phantoms import head_ct

from medcyclegan import translate_volume
from medcyclegan.errors import UsageError
from medcyclegan.inference import InferenceOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "--batch-size 0"),
        ({"batch_size": "many"}, "--batch-size many"),
        ({"planes": "two"}, "--planes two: use axial or three"),
        ({"backend": "tvm"}, "--backend tvm"),
        ({"backend": "onnx", "fast": True}, "leave one of them out"),
        ({"backend": "onnx", "device": "cuda"}, "computes on the CPU"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        InferenceOptions(**options)
    with pytest.raises(UsageError, match=message):
        translate_volume(head_ct(), identity_model(), "mr", **options)


def test_settings_that_change_values_are_described():
    assert InferenceOptions().settings == ()
    assert InferenceOptions(device="cpu", batch_size=3).settings == ()
    assert len(InferenceOptions(fast=True, tta=True, planes="three").settings) == 3
