"""The words of EPCIS 2.0 and CBV 2.0, and the namespace of our own words (docs/reference/capture.md).

The lists of the standard are closed: a bare word must be one of them, and every other value must be a URI.
`Vocabulary.to_uri` gives the one URI of a word in any of its forms.
"""

from typing import Final

EVENT_TYPES: Final = ("ObjectEvent", "AggregationEvent", "TransactionEvent", "TransformationEvent", "AssociationEvent")
ACTIONS: Final = frozenset({"ADD", "OBSERVE", "DELETE"})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BIZ_STEPS: Final = _words(
    "accepting arriving assembling collecting commissioning consigning creating_class_instance cycle_counting "
    "decommissioning departing destroying disassembling dispensing encoding entering_exiting holding inspecting "
    "installing killing loading other packing picking receiving removing repackaging repairing replacing reserving "
    "retail_selling shipping staging_outbound stock_taking stocking storing transporting unloading unpacking "
    "void_shipping sensor_reporting sampling"
)
DISPOSITIONS: Final = _words(
    "active container_closed damaged destroyed dispensed disposed encoded expired in_progress in_transit inactive "
    "no_pedigree_match non_sellable_other partially_dispensed recalled reserved retail_sold returned "
    "sellable_accessible sellable_not_accessible stolen unknown available completeness_verified "
    "completeness_inferred conformant container_open mismatch_instance mismatch_class mismatch_quantity "
    "needs_replacement non_conformant unavailable"
)
BIZ_TRANSACTION_TYPES: Final = _words("bol cert desadv inv pedigree po poc prodorder recadv rma testprd testres upevt")
SOURCE_DEST_TYPES: Final = _words("owning_party possessing_party location")
ERROR_REASONS: Final = _words("did_not_occur incorrect_data")
SENSOR_ALERT_TYPES: Final = _words("ALARM_CONDITION ERROR_CONDITION")
COMPONENTS: Final = _words(
    "x y z axial_distance azimuth height spherical_radius polar_angle elevation_angle easting northing latitude "
    "longitude altitude"
)
MEASUREMENT_TYPES: Final = _words(
    "AbsoluteHumidity AbsorbedDose AbsorbedDoseRate Acceleration Radioactivity Altitude AmountOfSubstance "
    "AmountOfSubstancePerUnitVolume Angle AngularAcceleration AngularMomentum AngularVelocity Area Capacitance "
    "Conductance Conductivity Count Density Dimensionless DoseEquivalent DoseEquivalentRate DynamicViscosity "
    "ElectricCharge ElectricCurrent ElectricCurrentDensity ElectricFieldStrength Energy Exposure Force Frequency "
    "Illuminance Inductance Irradiance KinematicViscosity Length LinearMomentum Luminance LuminousFlux "
    "LuminousIntensity MagneticFlux MagneticFluxDensity MagneticVectorPotential Mass MassConcentration MassFlowRate "
    "MassPerAreaTime MemoryCapacity MolalityOfSolute MolarEnergy MolarMass MolarVolume Power Pressure RadiantFlux "
    "RadiantIntensity RelativeHumidity Resistance Resistivity SolidAngle SpecificVolume Speed SurfaceDensity "
    "SurfaceTension Temperature Time Torque Voltage Volume VolumeFlowRate VolumeFraction VolumetricFlux Wavenumber"
)

CBV: Final = "https://ref.gs1.org/cbv/"
GS1_VOC: Final = "https://ref.gs1.org/voc/"
# Our own words: steps and dispositions of the hub for which CBV has no word.
PARCELS_VOC: Final = "urn:parcels:voc:"


class Vocabulary:
    """One closed list of words, each with its URI."""

    def __init__(self, name: str, words: frozenset[str], root: str, *deprecated_prefixes: str) -> None:
        """Create a vocabulary.

        Args:
            name: used in messages.
            words: the bare words.
            root: the URI of a word is this root and the word.
            deprecated_prefixes: prefixes of forms that JSON documents must not use (CBV 2.0, 7.2).
        """
        self.name, self.words, self.root, self._deprecated_prefixes = name, words, root, deprecated_prefixes

    def problem(self, value: str) -> str | None:
        """Why a URI is neither a word of this list nor a user-defined word; None if it is one of these."""
        for prefix in self._deprecated_prefixes:
            if value.startswith(prefix):
                return f"in JSON, words of CBV are written without the prefix {prefix}"
        for root in (self.root, _curie(self.root)):
            if value.startswith(root) and value.removeprefix(root) not in self.words:
                return f"CBV 2.0 has no such word; its words are {', '.join(sorted(self.words))}"
        return None

    def to_uri(self, value: str) -> str:
        """The URI of a word in any of its forms; other URIs unchanged."""
        if value in self.words:
            return self.root + value
        curie = _curie(self.root)
        return self.root + value.removeprefix(curie) if value.startswith(curie) else value

    def bare_word(self, value: str) -> str | None:
        """The bare word; None if the value is not of this vocabulary."""
        uri = self.to_uri(value)
        return uri.removeprefix(self.root) if uri.startswith(self.root) else None


def _curie(root: str) -> str:
    return root.replace(CBV, "cbv:").replace(GS1_VOC, "gs1:")


def _deprecated(part: str) -> tuple[str, ...]:
    return (f"urn:epcglobal:cbv:{part}:", "http://ns.gs1.org/cbv/", "https://ns.gs1.org/cbv/")


_DEPRECATED_VOC: Final = (
    "http://gs1.org/voc/",
    "https://gs1.org/voc/",
    "http://www.gs1.org/voc/",
    "https://www.gs1.org/voc/",
)

BIZ_STEP: Final = Vocabulary("bizStep", BIZ_STEPS, CBV + "BizStep-", *_deprecated("bizstep"))
DISPOSITION: Final = Vocabulary("disposition", DISPOSITIONS, CBV + "Disp-", *_deprecated("disp"))
BIZ_TRANSACTION_TYPE: Final = Vocabulary(
    "business transaction type", BIZ_TRANSACTION_TYPES, CBV + "BTT-", *_deprecated("btt")
)
SOURCE_DEST_TYPE: Final = Vocabulary("source or destination type", SOURCE_DEST_TYPES, CBV + "SDT-", *_deprecated("sdt"))
ERROR_REASON: Final = Vocabulary("error reason", ERROR_REASONS, CBV + "ER-", *_deprecated("er"))
COMPONENT: Final = Vocabulary("component", COMPONENTS, CBV + "Comp-", *_deprecated("comp"))
MEASUREMENT_TYPE: Final = Vocabulary("measurement type", MEASUREMENT_TYPES, GS1_VOC, *_DEPRECATED_VOC)
SENSOR_ALERT_TYPE: Final = Vocabulary("sensor alert", SENSOR_ALERT_TYPES, GS1_VOC, *_DEPRECATED_VOC)
