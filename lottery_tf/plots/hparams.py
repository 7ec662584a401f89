"""TensorBoard's page HParams: the flags of each run beside its results. Without TensorFlow."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from lottery_tf.plots import events

SUFFIX = ".hparams"
STATUS = {
    "finished": api_pb2.STATUS_SUCCESS,
    "unfinished": api_pb2.STATUS_RUNNING,
    "damaged": api_pb2.STATUS_FAILURE,
}


def write_run(directory: pathlib.Path, flags: Mapping[str, Any], results: Mapping[str, float],
              state: str) -> None:  # fmt: skip
    """Writes a run's flags and results into its event files, in place of what was there of them.

    Args:
        directory: of the run's event files.
        flags: {flag: value}, of whatever type.
        results: {tag: value}; what is not finite is left out.
        state: of STATUS.
    """
    start = plugin_data_pb2.SessionStartInfo()
    for name, value in flags.items():
        value = plain(value)
        kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
        setattr(start.hparams[name], kind, value)
    end = plugin_data_pb2.SessionEndInfo(status=STATUS[state])
    values = [
        _value(
            metadata.SESSION_START_INFO_TAG,
            plugin_data_pb2.HParamsPluginData(session_start_info=start),
        ),
        *(events.scalar(tag, value) for tag, value in results.items() if np.isfinite(value)),
        _value(
            metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end)
        ),
    ]
    events.replace(directory, SUFFIX, [(0, value) for value in values])


def write_study(directory: pathlib.Path, flags: Mapping[str, Iterable[Any]],
                results: Iterable[str]) -> None:  # fmt: skip
    """Writes which flags and results the page shows, into a directory of its own.

    Args:
        directory: beside the runs, in TensorBoard's --logdir.
        flags: {flag: the values that it has in the runs}.
        results: the tags of `write_run`.
    """
    shown = [_flag_info(name, {plain(value) for value in values}) for name, values in flags.items()]
    experiment = api_pb2.Experiment(
        hparam_infos=shown,
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag.split("/")[-1])
            for tag in results
        ],
    )
    data = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    events.replace(directory, SUFFIX, [(0, _value(metadata.EXPERIMENT_TAG, data))])


def plain(value: Any) -> bool | float | str:
    """A flag's value as the page knows it: a truth, a number, or words."""
    if isinstance(value, bool | int | float):
        return value if isinstance(value, bool) else float(value)
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _flag_info(name, values):
    """The HParamInfo of a flag with some plain values."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        kind = api_pb2.DATA_TYPE_BOOL
    else:
        kind = api_pb2.DATA_TYPE_FLOAT64 if kinds == {float} else api_pb2.DATA_TYPE_STRING
    info = api_pb2.HParamInfo(name=name, type=kind, differs=len(values) > 1)
    info.domain_discrete.extend(sorted(values, key=lambda value: (str(type(value)), value)))
    return info


def _value(tag, data):
    """A summary that holds nothing but the plugin's data."""
    return summary_pb2.Summary.Value(
        tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
    )
