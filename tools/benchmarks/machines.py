"""Devices and their links as the makers' data sheets give them, and what a step takes there on paper."""

import dataclasses

# Of a device's peak, what large matrix products reach in a training step. An assumption, the same for all.
SUSTAINED = 0.4


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices of one kind, each a neighbour of two others in a ring. Links are one link's one direction."""

    name: str
    teraflops: float  # peak of the towers' products: bfloat16, or float32 where there is no bfloat16
    float32_teraflops: float  # peak of the loss's products, which are exact in float32
    link: float  # GB/s from device to device
    joined: float  # devices that such links join
    network: float  # GB/s on the way to any other device

    def compute_seconds(self, tower_flops: float, loss_flops: float) -> float:
        """The time of one device's matrix products."""
        return (tower_flops / self.teraflops + loss_flops / self.float32_teraflops) / (SUSTAINED * 1e12)

    def send_seconds(self, count_of_bytes: float, devices: int) -> float:
        """The time that a device's bytes take around a ring of `devices`: its slowest link decides."""
        return count_of_bytes / 1e9 / (self.link if devices <= self.joined else self.network)


MACHINES = (
    # NVIDIA V100 SXM2: 6 NVLinks of 25 GB/s a direction; one 100 Gb/s network card a node of 8.
    Machine("V100", 15.7, 15.7, link=150, joined=8, network=12.5),
    # NVIDIA H100 SXM: NVLink 900 GB/s in both directions together; a 400 Gb/s network card a GPU.
    Machine("H100", 989, 67, link=450, joined=8, network=50),
    # Google Cloud TPU v5e: 400 GB/s over 4 links in both directions together; pods of 256, between them 6.4 Tb/s.
    # Exact float32 takes six bfloat16 products.
    Machine("TPU v5e", 197, 197 / 6, link=50, joined=256, network=3.125),
    # Google Cloud TPU v5p: 1,200 GB/s over 6 links; slices of up to 6,144 chips, beyond them 50 Gb/s a chip.
    Machine("TPU v5p", 459, 459 / 6, link=100, joined=6144, network=6.25),
)
