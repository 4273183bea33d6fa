"""Small exports of several kinds, of a person with given devices and accounts, on days in June 2024."""

from __future__ import annotations

import io
import json
import pathlib
import zipfile
from collections.abc import Mapping

from garmin_fit_sdk import Encoder, Profile

FIT_EPOCH = 631_065_600
JUNE = 1_717_200_000  # 2024-06-01T00:00:00Z
MINUTES = 5  # heart rates per day, from 08:00 UTC


def fitbit(day: int, first: int = 60, account: str = "") -> dict[str, str]:
  """A file of heart rates of a day and, if there is an account, the profile."""
  beats = [
    {"dateTime": f"06/{day:02d}/24 08:{n:02d}:05", "value": {"bpm": first + n, "confidence": 2}} for n in range(MINUTES)
  ]
  files = {f"Takeout/Fitbit/Global Export Data/heart_rate-2024-06-{day:02d}.json": json.dumps(beats)}
  if account:
    files["Takeout/Fitbit/Your Profile/Profile.csv"] = f"id,full_name\n{account},X Y\n"
  return files


def samsung(name: str, day: int, device: str, first: int = 60) -> dict[str, str]:
  """A folder of Samsung Health with heart rates of a day."""
  columns = ("start_time", "time_offset", "deviceuuid", "end_time", "heart_rate")
  header = ",".join(f"com.samsung.health.heart_rate.{column}" for column in columns)
  times = [f"2024-06-{day:02d} 08:{n:02d}:00.000" for n in range(MINUTES)]
  rows = [f"{time},UTC+0000,{device},{time},{first + n}.0," for n, time in enumerate(times)]
  folder = f"samsunghealth_{name}_202406{day:02d}"
  text = "\n".join(["com.samsung.shealth.tracker.heart_rate,1,5", header, *rows, ""])
  return {f"{folder}/com.samsung.shealth.tracker.heart_rate.202406{day:02d}.csv": text}


def apple(day: int, owner: str, born: str, first: int = 60) -> str:
  """Apple's export.xml with heart rates of a day."""
  me = f' <Me HKCharacteristicTypeIdentifierDateOfBirth="{born}" HKCharacteristicTypeIdentifierBiologicalSex="X"/>\n'
  device = "&lt;&lt;HKDevice: 0x1&gt;, name:Apple Watch, manufacturer:Apple Inc., model:Watch&gt;"
  times = [f"2024-06-{day:02d} 08:{n:02d}:00 +0000" for n in range(MINUTES)]
  records = "".join(
    f' <Record type="HKQuantityTypeIdentifierHeartRate" sourceName="{owner}" device="{device}" unit="count/min" '
    f'startDate="{time}" endDate="{time}" value="{first + n}"/>\n'
    for n, time in enumerate(times)
  )
  return f'<?xml version="1.0" encoding="UTF-8"?>\n<HealthData locale="en_GB">\n{me}{records}</HealthData>\n'


def fit(day: int, serial: int, first: int = 60) -> bytes:
  """A FIT file of a watch with heart rates of a day."""
  encoder = Encoder()
  start = JUNE + 86_400 * (day - 1) + 8 * 3600 - FIT_EPOCH
  named = {"type": "activity", "manufacturer": "garmin", "product": 3906, "time_created": start}
  messages = [("FILE_ID", {**named, **({"serial_number": serial} if serial else {})})]
  messages += [("RECORD", {"timestamp": start + 60 * n, "heart_rate": first + n}) for n in range(MINUTES)]
  for name, fields in messages:
    encoder.write_mesg({"mesg_num": Profile["mesg_num"][name], **fields})
  return bytes(encoder.close())


def packed(files: Mapping[str, str | bytes]) -> bytes:
  """A zip of files."""
  data = io.BytesIO()
  with zipfile.ZipFile(data, "w") as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  return data.getvalue()


def write(folder: pathlib.Path, files: Mapping[str, str | bytes]) -> pathlib.Path:
  """Writes files into a folder; the folder."""
  for name, content in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return folder


def within(folder: str, files: Mapping[str, str | bytes]) -> dict[str, str | bytes]:
  """The files in a folder."""
  return {f"{folder}/{name}": content for name, content in files.items()}
