"""What people write who have no trainer: jax, orbax, the compilation cache, and a shell loop.

`python shell_loop.py MODEL PACE_S FOLDER` trains for ever, saves every 20 steps and writes the
time and number of every step to `FOLDER/steps`.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp

EVERY = 20


def main(key: str, pace_s: float, folder: Path) -> None:
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from bench.models import MODELS

    model = MODELS[key]()
    program, size = model.program, model.global_batch

    @jax.jit
    def begin():
        params = program.init(jax.random.key(0))
        return {"params": params, "opt": program.optimizer.init(params), "step": jnp.int32(0)}

    def step(state, batch):
        slots = size // model.microbatch
        cut = jax.tree.map(lambda leaf: leaf.reshape(slots, -1, *leaf.shape[1:]), batch)

        def add(total, slot):
            def loss(params):
                returned = program.loss(params, slot, jax.random.key(0))
                return returned[0] if isinstance(returned, tuple) else returned

            found = jax.value_and_grad(loss)(state["params"])
            return jax.tree.map(jnp.add, total, found), None

        zeros = (jnp.float32(0), jax.tree.map(jnp.zeros_like, state["params"]))
        (total, gradients), _ = jax.lax.scan(add, zeros, cut)
        gradients = jax.tree.map(lambda leaf: leaf / slots, gradients)
        updates, opt = program.optimizer.update(gradients, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "opt": opt, "step": state["step"] + 1}, total / slots

    state = begin()
    options = ocp.CheckpointManagerOptions(save_interval_steps=EVERY, max_to_keep=2)
    manager = ocp.CheckpointManager(folder / "checkpoints", options=options)
    newest = manager.latest_step()
    if newest is not None:
        state = manager.restore(newest, args=ocp.args.StandardRestore(state))
    compiled = jax.jit(step, donate_argnums=0)
    number = int(state["step"])
    with (folder / "steps").open("a") as steps:
        while True:
            first = number * size
            examples = [program.data[(first + k) % len(program.data)] for k in range(size)]
            time.sleep(pace_s)
            batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *examples)
            state, loss = compiled(state, batch)
            loss.block_until_ready()
            number += 1
            steps.write(f"{time.time()} {number}\n")
            steps.flush()
            manager.save(number, args=ocp.args.StandardSave(state))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
