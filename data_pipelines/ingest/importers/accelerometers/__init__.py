"""Research accelerometers: ActiGraph, GENEActiv and Axivity.

accelerometer   the importer: which files it reads, and which person, signals and clock they hold
epoch_csv       ActiGraph's tables of epochs, as ActiLife writes them
gt3x            samples of ActiGraph's .gt3x, block by block
subjects        whose a file is, as far as it says
recordings      samples of GENEActiv's .bin and Axivity's .cwa, by the package actfast
minutes         samples to ENMO and counts of each minute, and when the device was worn
calibration     what brings the rest of a recording to 1 g
counts          ActiGraph's counts from samples (Neishabouri et al. 2022)
"""
