import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from trainerd.v1 import fault_pb2 as _fault_pb2
from trainerd.v1 import inject_pb2 as _inject_pb2
from trainerd.v1 import timesheet_pb2 as _timesheet_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StateLayout(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_LAYOUT_UNSPECIFIED: _ClassVar[StateLayout]
    STATE_LAYOUT_REPLICATED: _ClassVar[StateLayout]
    STATE_LAYOUT_SHARDED: _ClassVar[StateLayout]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FLOAT32: _ClassVar[Precision]
    PRECISION_BFLOAT16: _ClassVar[Precision]

class OnRepeatedFailure(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_REPEATED_FAILURE_UNSPECIFIED: _ClassVar[OnRepeatedFailure]
    ON_REPEATED_FAILURE_CONTINUE: _ClassVar[OnRepeatedFailure]
    ON_REPEATED_FAILURE_PAUSE: _ClassVar[OnRepeatedFailure]
    ON_REPEATED_FAILURE_FAIL: _ClassVar[OnRepeatedFailure]

class BestMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BEST_MODE_UNSPECIFIED: _ClassVar[BestMode]
    BEST_MODE_LOWEST: _ClassVar[BestMode]
    BEST_MODE_HIGHEST: _ClassVar[BestMode]

class RunState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_STATE_UNSPECIFIED: _ClassVar[RunState]
    RUN_STATE_QUEUED: _ClassVar[RunState]
    RUN_STATE_STARTING: _ClassVar[RunState]
    RUN_STATE_RUNNING: _ClassVar[RunState]
    RUN_STATE_RECOVERING: _ClassVar[RunState]
    RUN_STATE_PAUSED: _ClassVar[RunState]
    RUN_STATE_STOPPING: _ClassVar[RunState]
    RUN_STATE_STOPPED: _ClassVar[RunState]
    RUN_STATE_COMPLETED: _ClassVar[RunState]
    RUN_STATE_FAILED: _ClassVar[RunState]
STATE_LAYOUT_UNSPECIFIED: StateLayout
STATE_LAYOUT_REPLICATED: StateLayout
STATE_LAYOUT_SHARDED: StateLayout
PRECISION_UNSPECIFIED: Precision
PRECISION_FLOAT32: Precision
PRECISION_BFLOAT16: Precision
ON_REPEATED_FAILURE_UNSPECIFIED: OnRepeatedFailure
ON_REPEATED_FAILURE_CONTINUE: OnRepeatedFailure
ON_REPEATED_FAILURE_PAUSE: OnRepeatedFailure
ON_REPEATED_FAILURE_FAIL: OnRepeatedFailure
BEST_MODE_UNSPECIFIED: BestMode
BEST_MODE_LOWEST: BestMode
BEST_MODE_HIGHEST: BestMode
RUN_STATE_UNSPECIFIED: RunState
RUN_STATE_QUEUED: RunState
RUN_STATE_STARTING: RunState
RUN_STATE_RUNNING: RunState
RUN_STATE_RECOVERING: RunState
RUN_STATE_PAUSED: RunState
RUN_STATE_STOPPING: RunState
RUN_STATE_STOPPED: RunState
RUN_STATE_COMPLETED: RunState
RUN_STATE_FAILED: RunState

class RunSpec(_message.Message):
    __slots__ = ("name", "entry", "args", "train", "trainer", "checkpoint", "hosts", "policy", "inject")
    class ArgsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    TRAINER_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    INJECT_FIELD_NUMBER: _ClassVar[int]
    name: str
    entry: str
    args: _containers.MessageMap[str, Value]
    train: TrainSpec
    trainer: TrainerSpec
    checkpoint: CheckpointSpec
    hosts: HostsSpec
    policy: _fault_pb2.Policy
    inject: _inject_pb2.InjectSpec
    def __init__(self, name: _Optional[str] = ..., entry: _Optional[str] = ..., args: _Optional[_Mapping[str, Value]] = ..., train: _Optional[_Union[TrainSpec, _Mapping]] = ..., trainer: _Optional[_Union[TrainerSpec, _Mapping]] = ..., checkpoint: _Optional[_Union[CheckpointSpec, _Mapping]] = ..., hosts: _Optional[_Union[HostsSpec, _Mapping]] = ..., policy: _Optional[_Union[_fault_pb2.Policy, _Mapping]] = ..., inject: _Optional[_Union[_inject_pb2.InjectSpec, _Mapping]] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("bool_value", "int_value", "double_value", "string_value", "list_value", "table_value")
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    LIST_VALUE_FIELD_NUMBER: _ClassVar[int]
    TABLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    bool_value: bool
    int_value: int
    double_value: float
    string_value: str
    list_value: ValueList
    table_value: ValueTable
    def __init__(self, bool_value: _Optional[bool] = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ..., string_value: _Optional[str] = ..., list_value: _Optional[_Union[ValueList, _Mapping]] = ..., table_value: _Optional[_Union[ValueTable, _Mapping]] = ...) -> None: ...

class ValueList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class ValueTable(_message.Message):
    __slots__ = ("values",)
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.MessageMap[str, Value]
    def __init__(self, values: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class TrainSpec(_message.Message):
    __slots__ = ("steps", "global_batch", "microbatch", "accumulate_steps", "seed", "deterministic", "evaluate_every_steps", "precision", "clip_norm", "remat", "exact_across_hosts", "state")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_BATCH_FIELD_NUMBER: _ClassVar[int]
    MICROBATCH_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATE_STEPS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DETERMINISTIC_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    CLIP_NORM_FIELD_NUMBER: _ClassVar[int]
    REMAT_FIELD_NUMBER: _ClassVar[int]
    EXACT_ACROSS_HOSTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    steps: int
    global_batch: int
    microbatch: int
    accumulate_steps: int
    seed: int
    deterministic: bool
    evaluate_every_steps: int
    precision: Precision
    clip_norm: float
    remat: bool
    exact_across_hosts: bool
    state: StateLayout
    def __init__(self, steps: _Optional[int] = ..., global_batch: _Optional[int] = ..., microbatch: _Optional[int] = ..., accumulate_steps: _Optional[int] = ..., seed: _Optional[int] = ..., deterministic: _Optional[bool] = ..., evaluate_every_steps: _Optional[int] = ..., precision: _Optional[_Union[Precision, str]] = ..., clip_norm: _Optional[float] = ..., remat: _Optional[bool] = ..., exact_across_hosts: _Optional[bool] = ..., state: _Optional[_Union[StateLayout, str]] = ...) -> None: ...

class TrainerSpec(_message.Message):
    __slots__ = ("python", "path", "env", "workdir")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    python: str
    path: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    workdir: str
    def __init__(self, python: _Optional[str] = ..., path: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., workdir: _Optional[str] = ...) -> None: ...

class CheckpointSpec(_message.Message):
    __slots__ = ("directory", "fallback_directory", "every_steps", "keep", "on_repeated_failure", "max_failures", "max_age_s", "keep_every_steps", "keep_best", "best_metric", "best_mode", "every_s", "auto_interval", "final_save_timeout_s", "final_save_hold_s", "scrub_every_s")
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    ON_REPEATED_FAILURE_FIELD_NUMBER: _ClassVar[int]
    MAX_FAILURES_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_S_FIELD_NUMBER: _ClassVar[int]
    KEEP_EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    KEEP_BEST_FIELD_NUMBER: _ClassVar[int]
    BEST_METRIC_FIELD_NUMBER: _ClassVar[int]
    BEST_MODE_FIELD_NUMBER: _ClassVar[int]
    EVERY_S_FIELD_NUMBER: _ClassVar[int]
    AUTO_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    FINAL_SAVE_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    FINAL_SAVE_HOLD_S_FIELD_NUMBER: _ClassVar[int]
    SCRUB_EVERY_S_FIELD_NUMBER: _ClassVar[int]
    directory: str
    fallback_directory: str
    every_steps: int
    keep: int
    on_repeated_failure: OnRepeatedFailure
    max_failures: int
    max_age_s: float
    keep_every_steps: int
    keep_best: int
    best_metric: str
    best_mode: BestMode
    every_s: float
    auto_interval: bool
    final_save_timeout_s: float
    final_save_hold_s: float
    scrub_every_s: float
    def __init__(self, directory: _Optional[str] = ..., fallback_directory: _Optional[str] = ..., every_steps: _Optional[int] = ..., keep: _Optional[int] = ..., on_repeated_failure: _Optional[_Union[OnRepeatedFailure, str]] = ..., max_failures: _Optional[int] = ..., max_age_s: _Optional[float] = ..., keep_every_steps: _Optional[int] = ..., keep_best: _Optional[int] = ..., best_metric: _Optional[str] = ..., best_mode: _Optional[_Union[BestMode, str]] = ..., every_s: _Optional[float] = ..., auto_interval: _Optional[bool] = ..., final_save_timeout_s: _Optional[float] = ..., final_save_hold_s: _Optional[float] = ..., scrub_every_s: _Optional[float] = ...) -> None: ...

class HostsSpec(_message.Message):
    __slots__ = ("count", "min", "wait_s")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    count: int
    min: int
    wait_s: float
    def __init__(self, count: _Optional[int] = ..., min: _Optional[int] = ..., wait_s: _Optional[float] = ...) -> None: ...

class RunMember(_message.Message):
    __slots__ = ("host", "process", "pid", "attached", "phase")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    host: str
    process: int
    pid: int
    attached: bool
    phase: _fault_pb2.Phase
    def __init__(self, host: _Optional[str] = ..., process: _Optional[int] = ..., pid: _Optional[int] = ..., attached: _Optional[bool] = ..., phase: _Optional[_Union[_fault_pb2.Phase, str]] = ...) -> None: ...

class RunResult(_message.Message):
    __slots__ = ("step", "batches", "masked_slots", "skipped_batches", "loss", "state_digest", "durable_step", "checkpoint")
    STEP_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    MASKED_SLOTS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_BATCHES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    STATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DURABLE_STEP_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    step: int
    batches: int
    masked_slots: int
    skipped_batches: int
    loss: float
    state_digest: str
    durable_step: int
    checkpoint: str
    def __init__(self, step: _Optional[int] = ..., batches: _Optional[int] = ..., masked_slots: _Optional[int] = ..., skipped_batches: _Optional[int] = ..., loss: _Optional[float] = ..., state_digest: _Optional[str] = ..., durable_step: _Optional[int] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("step", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    step: int
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, step: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class CheckpointStatus(_message.Message):
    __slots__ = ("path", "fallback", "bytes", "saved_at", "every_steps", "disk_bytes", "disk_free_bytes", "disk_full_at", "failure")
    PATH_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SAVED_AT_FIELD_NUMBER: _ClassVar[int]
    EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FULL_AT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    path: str
    fallback: bool
    bytes: int
    saved_at: _timestamp_pb2.Timestamp
    every_steps: int
    disk_bytes: int
    disk_free_bytes: int
    disk_full_at: _timestamp_pb2.Timestamp
    failure: str
    def __init__(self, path: _Optional[str] = ..., fallback: _Optional[bool] = ..., bytes: _Optional[int] = ..., saved_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., every_steps: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., disk_full_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., failure: _Optional[str] = ...) -> None: ...

class StepMetrics(_message.Message):
    __slots__ = ("step", "batch", "loss", "gradient_norm", "metrics", "duration_s", "data_wait_s", "examples", "time", "incarnation")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_NORM_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    DATA_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    step: int
    batch: int
    loss: float
    gradient_norm: float
    metrics: _containers.ScalarMap[str, float]
    duration_s: float
    data_wait_s: float
    examples: int
    time: _timestamp_pb2.Timestamp
    incarnation: int
    def __init__(self, step: _Optional[int] = ..., batch: _Optional[int] = ..., loss: _Optional[float] = ..., gradient_norm: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., duration_s: _Optional[float] = ..., data_wait_s: _Optional[float] = ..., examples: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., incarnation: _Optional[int] = ...) -> None: ...

class ThreadStacks(_message.Message):
    __slots__ = ("threads", "python", "native")
    THREADS_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    NATIVE_FIELD_NUMBER: _ClassVar[int]
    threads: str
    python: str
    native: str
    def __init__(self, threads: _Optional[str] = ..., python: _Optional[str] = ..., native: _Optional[str] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("id", "spec", "state", "reason", "incarnation", "restarts", "step", "loss", "first_loss", "steps_per_second", "examples_per_second", "eta_s", "skipped_batches", "masked_slots", "durable_step", "checkpoint_failures", "phase", "pid", "slots", "last_fault", "first_evaluation", "last_evaluation", "result", "submitted_at", "ended_at", "last_recovery_s", "attached", "resumed_run", "rollbacks", "slot_parts", "policy_version", "snapshot_step", "snapshot_every", "checkpoint", "times", "members")
    ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    FIRST_LOSS_FIELD_NUMBER: _ClassVar[int]
    STEPS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_BATCHES_FIELD_NUMBER: _ClassVar[int]
    MASKED_SLOTS_FIELD_NUMBER: _ClassVar[int]
    DURABLE_STEP_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FAILURES_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    LAST_FAULT_FIELD_NUMBER: _ClassVar[int]
    FIRST_EVALUATION_FIELD_NUMBER: _ClassVar[int]
    LAST_EVALUATION_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_RECOVERY_S_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    RESUMED_RUN_FIELD_NUMBER: _ClassVar[int]
    ROLLBACKS_FIELD_NUMBER: _ClassVar[int]
    SLOT_PARTS_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_STEP_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_EVERY_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    id: str
    spec: RunSpec
    state: RunState
    reason: str
    incarnation: int
    restarts: int
    step: int
    loss: float
    first_loss: float
    steps_per_second: float
    examples_per_second: float
    eta_s: float
    skipped_batches: int
    masked_slots: int
    durable_step: int
    checkpoint_failures: int
    phase: _fault_pb2.Phase
    pid: int
    slots: int
    last_fault: _fault_pb2.Fault
    first_evaluation: Evaluation
    last_evaluation: Evaluation
    result: RunResult
    submitted_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    last_recovery_s: float
    attached: bool
    resumed_run: str
    rollbacks: int
    slot_parts: int
    policy_version: int
    snapshot_step: int
    snapshot_every: int
    checkpoint: CheckpointStatus
    times: _containers.RepeatedCompositeFieldContainer[_timesheet_pb2.ActivityTime]
    members: _containers.RepeatedCompositeFieldContainer[RunMember]
    def __init__(self, id: _Optional[str] = ..., spec: _Optional[_Union[RunSpec, _Mapping]] = ..., state: _Optional[_Union[RunState, str]] = ..., reason: _Optional[str] = ..., incarnation: _Optional[int] = ..., restarts: _Optional[int] = ..., step: _Optional[int] = ..., loss: _Optional[float] = ..., first_loss: _Optional[float] = ..., steps_per_second: _Optional[float] = ..., examples_per_second: _Optional[float] = ..., eta_s: _Optional[float] = ..., skipped_batches: _Optional[int] = ..., masked_slots: _Optional[int] = ..., durable_step: _Optional[int] = ..., checkpoint_failures: _Optional[int] = ..., phase: _Optional[_Union[_fault_pb2.Phase, str]] = ..., pid: _Optional[int] = ..., slots: _Optional[int] = ..., last_fault: _Optional[_Union[_fault_pb2.Fault, _Mapping]] = ..., first_evaluation: _Optional[_Union[Evaluation, _Mapping]] = ..., last_evaluation: _Optional[_Union[Evaluation, _Mapping]] = ..., result: _Optional[_Union[RunResult, _Mapping]] = ..., submitted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_recovery_s: _Optional[float] = ..., attached: _Optional[bool] = ..., resumed_run: _Optional[str] = ..., rollbacks: _Optional[int] = ..., slot_parts: _Optional[int] = ..., policy_version: _Optional[int] = ..., snapshot_step: _Optional[int] = ..., snapshot_every: _Optional[int] = ..., checkpoint: _Optional[_Union[CheckpointStatus, _Mapping]] = ..., times: _Optional[_Iterable[_Union[_timesheet_pb2.ActivityTime, _Mapping]]] = ..., members: _Optional[_Iterable[_Union[RunMember, _Mapping]]] = ...) -> None: ...
