"""Pictures of every section, for a person to look at: they land in ``screenshots/`` of the repository."""

from __future__ import annotations

import SimpleITK as sitk
from shared_data import REPOSITORY

FOLDER = REPOSITORY / "screenshots"
PICTURES = {
    "1_inputs": ("inputsSection", "cardSection", "advancedSection"),
    "2_result": ("resultSection",),
    "3_modes": ("modesSection",),
    "4_raters": ("ratersSection",),
    "5_export": ("exportSection",),
    "6_outlines": ("outlinesSection",),
    "7_review": ("reviewSection",),
}


def test_every_section_can_be_looked_at(driver):
    driver.load_sample_data()
    driver.wait(lambda: driver.ui.estimateLabel.text.startswith("About"))
    driver.generate(8)
    driver.wait(lambda: "modes" in driver.run.tables)
    driver.press("compareButton")
    driver.wait(lambda: "comparison summary" in driver.run.tables)
    driver.parameters.showContours = driver.parameters.together = True
    driver.ui.reviewerEdit.text = "A. Reader"
    driver.open_sections("reviewSection")
    for button in ("reviewNextButton", "reviewAcceptButton"):
        driver.press(button)
    FOLDER.mkdir(exist_ok=True)
    driver.picture(FOLDER / "0_closed.png")
    closed = sitk.ReadImage(str(FOLDER / "0_closed.png")).GetHeight()
    for name, sections in PICTURES.items():
        driver.picture(FOLDER / f"{name}.png", *sections)
        assert sitk.ReadImage(str(FOLDER / f"{name}.png")).GetHeight() > closed + 50, f"{name} shows nothing"
