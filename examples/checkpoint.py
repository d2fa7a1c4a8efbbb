"""Checkpoints of a training that is interrupted: python examples/checkpoint.py CONFIG

CONFIG is the store's configuration; `make up` writes it to run/effective.yaml in its data folder.
"""

import sys

import torch
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from craqen.client.checkpoints import CraqenReader, CraqenWriter

FOLDER = "/checkpoint-example/run"
STEPS = 60
INTERRUPTED = 40


def make_training() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model and its optimizer, the same at every start."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Tanh(), torch.nn.Linear(256, 1))
    return model, torch.optim.Adam(model.parameters(), lr=0.01)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> float:
    """Steps [first, last), each with data of its own; the last one's loss."""
    loss = torch.tensor(0.0)
    for step in range(first, last):
        source = torch.Generator().manual_seed(step)
        samples = torch.rand(32, 64, generator=source)
        loss = ((model(samples) - samples.sum(1, keepdim=True)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def main() -> None:
    """Train in one go, then with an interruption, and compare."""
    config = sys.argv[1]
    whole = train(*make_training(), 0, STEPS)

    model, optimizer = make_training()
    train(model, optimizer, 0, INTERRUPTED)
    weights, moments = get_state_dict(model, optimizer)
    path = f"{FOLDER}/step-{INTERRUPTED}"
    checkpoint.save(
        {"model": weights, "optimizer": moments}, storage_writer=CraqenWriter(path, config=config)
    )

    model, optimizer = make_training()  # as a new process would
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments}
    checkpoint.load(state, storage_reader=CraqenReader(path, config=config))
    set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
    )
    resumed = train(model, optimizer, INTERRUPTED, STEPS)
    same = "the same as" if resumed == whole else f"not {whole:.6f} as"
    print(f"loss at step {STEPS}: {same} without the interruption")


if __name__ == "__main__":
    main()
