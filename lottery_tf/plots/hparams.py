"""Writes TensorBoard's page HParams: the flags of each run beside its results.

TensorBoard's own functions for it need TensorFlow.
"""

import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

from lottery_tf.plots import events

SUFFIX = ".hparams"
KINDS = {
    bool: api_pb2.DATA_TYPE_BOOL,
    float: api_pb2.DATA_TYPE_FLOAT64,
    str: api_pb2.DATA_TYPE_STRING,
}
STATUS = {
    "finished": api_pb2.STATUS_SUCCESS,
    "unfinished": api_pb2.STATUS_RUNNING,
    "damaged": api_pb2.STATUS_FAILURE,
}


def write_run(
    directory: pathlib.Path, flags: Mapping[str, object], results: Mapping[str, float], state: str
) -> None:
    """Write a run's flags and results into its event files, in place of what they had of them.

    The flags are {flag: value}, of whatever type, the results {tag: value}, where what is not
    finite is left out; the state is one of STATUS.
    """
    start = SessionStartInfo()
    for name, value in flags.items():
        value = plain(value)
        kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
        setattr(start.hparams[name], kind, value)
    end = SessionEndInfo(status=STATUS[state])
    summaries = [
        _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
        *(events.scalar(tag, value) for tag, value in results.items() if np.isfinite(value)),
        _summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)),
    ]
    events.replace(directory, SUFFIX, [(0, summary) for summary in summaries])


def write_study(
    directory: pathlib.Path, flags: Mapping[str, Iterable[object]], results: Iterable[str]
) -> None:
    """Write which flags and results the page shows, into a directory of its own beside the runs.

    The flags are {flag: the values that it has in the runs}, the results tags of `write_run`.
    """
    experiment = api_pb2.Experiment()
    for name, given in flags.items():
        values = {plain(value) for value in given}
        kinds = {type(value) for value in values}
        kind = KINDS[kinds.pop()] if len(kinds) == 1 else api_pb2.DATA_TYPE_STRING
        info = api_pb2.HParamInfo(name=name, type=kind, differs=len(values) > 1)
        info.domain_discrete.extend(sorted(values, key=lambda value: (str(type(value)), value)))
        experiment.hparam_infos.append(info)
    for tag in results:
        metric = api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag))
        metric.display_name = tag.split("/")[-1]
        experiment.metric_infos.append(metric)
    summary = _summary(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment))
    events.replace(directory, SUFFIX, [(0, summary)])


def plain(value: object) -> bool | float | str:
    """Return a flag's value as the page knows it: a truth, a number, or words."""
    if isinstance(value, bool | int | float):
        return value if isinstance(value, bool) else float(value)
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _summary(tag: str, data: HParamsPluginData) -> Summary:
    """Return a summary that holds nothing but the plugin's data."""
    about = metadata.create_summary_metadata(data)
    value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])
