"""The simulated people: lasting traits, each of which leaves its mark on the days."""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipelines.source import Label


@dataclasses.dataclass(frozen=True)
class Traits:
  """One person's lasting traits; the traits marked latent have no unit, and about mean 0 and SD 1 over people."""

  age: float  # years
  sex: str  # "F" or "M"
  bmi: float  # kg/m^2
  fitness: float  # latent
  hypertension: bool
  anxiety: bool
  resting_heart_rate: float  # bpm, awake, seated and calm
  rmssd: float  # ms, awake, seated and calm
  conductance: float  # uS, calm
  skin_temperature: float  # C, awake
  chronotype: float  # hours by which sleep is later than the population's average
  sleep_hours: float  # per night
  works: bool  # Monday to Friday at fixed hours
  restlessness: float  # latent: movement outside exercise
  bouts_per_day: float  # expected number of bouts of exercise
  missing_share: float  # expected share of a day's values that the device loses
  night_off: float  # probability that the device is taken off for a night
  fit: float  # latent: how snugly it is worn

  @property
  def max_heart_rate(self) -> float:
    """Maximum heart rate in bpm, 208 - 0.7 age (Tanaka et al., 2001)."""
    return 208 - 0.7 * self.age

  @property
  def labels(self) -> dict[str, Label]:
    """The traits that a dataset stores as labels, rounded as a questionnaire would."""
    return {
      "age": round(self.age, 1),
      "sex": self.sex,
      "bmi": round(self.bmi, 1),
      "hypertension": self.hypertension,
      "anxiety": self.anxiety,
      "fitness": round(self.fitness, 3),
    }


def _chance(rng: np.random.Generator, logit: float) -> bool:
  return bool(rng.random() < 1 / (1 + np.exp(-logit)))


def draw_traits(rng: np.random.Generator) -> Traits:
  """Draws one person from a generator of their own; the order of the draws is fixed.

  The directions of the effects follow the literature (resting rate rises with BMI and is higher in women, falls with
  fitness; RMSSD falls with age, hypertension and anxiety). Their sizes are chosen so that a probe can find them, but
  not from a single minute.
  """
  age = float(np.clip(rng.normal(45, 14), 18, 85))
  female = bool(rng.random() < 0.55)
  decades = (age - 45) / 10
  bmi = float(np.clip(26.5 * np.exp(0.18 * rng.standard_normal() + 0.02 * decades), 16.5, 55))
  weight = (bmi - 27) / 5
  fitness = float(0.85 * rng.standard_normal() - 0.22 * decades - 0.35 * weight)
  hypertension = _chance(rng, -0.9 + 0.75 * decades + 0.55 * weight - 0.2 * fitness)
  anxiety = _chance(rng, -1.3 + 0.5 * (female - 0.5) - 0.2 * decades)
  z = rng.standard_normal(12)
  resting = 74.8 + 2.5 * (female - 0.5) + 1.6 * weight - 3.2 * fitness + 3.0 * hypertension + 3.5 * anxiety
  log_rmssd = 3.46 - 0.17 * decades + 0.14 * fitness - 0.22 * hypertension - 0.18 * anxiety
  conductance = 1.35 * np.exp(0.35 * anxiety - 0.08 * decades + 0.15 * (not female) + 0.8 * z[2])
  missing = 0.49 + 0.095 * z[8]
  return Traits(
    age=age,
    sex="F" if female else "M",
    bmi=bmi,
    fitness=fitness,
    hypertension=hypertension,
    anxiety=anxiety,
    resting_heart_rate=float(np.clip(resting + 5.2 * z[0], 50, 105)),
    rmssd=float(np.exp(log_rmssd + 0.32 * z[1])),
    conductance=float(conductance),
    skin_temperature=float(31.0 + 0.25 * female - 0.15 * weight + 0.6 * z[3]),
    chronotype=float(np.clip(0.9 * z[4] - 0.25 * decades, -2.5, 2.5)),
    sleep_hours=float(np.clip(7.4 - 0.35 * anxiety - 0.1 * decades + 0.6 * z[5], 5, 9.5)),
    works=bool(rng.random() < (0.8 if age < 66 else 0.12)),
    restlessness=float(0.9 * z[6] + 0.25 * fitness - 0.2 * weight),
    bouts_per_day=float(0.85 * np.exp(0.45 * fitness + 0.4 * z[7])),
    missing_share=float(np.clip(missing, 0.15, 0.75)),
    night_off=float(np.clip(1.6 * (missing - 0.3) + 0.35 * z[9], 0.02, 0.95)),
    fit=float(z[10]),
  )
