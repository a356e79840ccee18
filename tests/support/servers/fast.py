"""Times for tests of the client: nothing is waited for longer than a local server needs."""

from clip_vae_lora.headless.remote.timing import Timing

FAST = Timing(
    connect_s=10,
    answer_s=60,
    heartbeat_s=60,
    first_s=0.5,
    retry_s=20,
    backoff_s=(0.01, 0.1),
    quiet_s=(0.05, 0.2),
    down_s=(0.02, 0.2),
    ending_s=(0.01, 0.1),
    settle_s=(0, 0.05, 0.1),
    lost_looks=4,
    stop_s=5,
)
