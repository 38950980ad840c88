"""The words of EPCIS 2.0 and CBV 2.0, and our own where those have none (docs/reference/capture.md).

Closed lists of the standard: a bare word is one of them, anything else is a URI. `full` gives the one URI of a word,
whichever of its forms it comes in.
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
# Our own words: hub steps and dispositions that CBV has no word for.
PARCELS_VOC: Final = "urn:parcels:voc:"


class Vocabulary:
    """One closed list, and the URI that each of its words stands for."""

    def __init__(self, name: str, words: frozenset[str], root: str, *deprecated_prefixes: str) -> None:
        """old: beginnings of the same words in forms that JSON documents must not use (CBV 2.0, 7.2)."""
        self.name, self.words, self.root, self._old = name, words, root, deprecated_prefixes

    def problem(self, value: str) -> str | None:
        """Why a value that is a URI is none of this list and no word of somebody else's."""
        for old in self._old:
            if value.startswith(old):
                return f"in JSON, a standard word stands bare, not as {old}…"
        for root in (self.root, _curie(self.root)):
            if value.startswith(root) and value.removeprefix(root) not in self.words:
                return f"CBV has no such word; it has {self._some()}"
        return None

    def full(self, value: str) -> str:
        """The URI of a word in any of its forms; other URIs as they are."""
        if value in self.words:
            return self.root + value
        curie = _curie(self.root)
        return self.root + value.removeprefix(curie) if value.startswith(curie) else value

    def word(self, value: str) -> str | None:
        """The bare word, or None where the value is somebody else's."""
        full = self.full(value)
        return full.removeprefix(self.root) if full.startswith(self.root) else None

    def _some(self) -> str:
        return ", ".join(sorted(self.words))


def _curie(root: str) -> str:
    return root.replace(CBV, "cbv:").replace(GS1_VOC, "gs1:")


def _old(part: str) -> tuple[str, ...]:
    return (f"urn:epcglobal:cbv:{part}:", "http://ns.gs1.org/cbv/", "https://ns.gs1.org/cbv/")


_OLD_VOC: Final = (
    "http://gs1.org/voc/",
    "https://gs1.org/voc/",
    "http://www.gs1.org/voc/",
    "https://www.gs1.org/voc/",
)

BIZ_STEP: Final = Vocabulary("bizStep", BIZ_STEPS, CBV + "BizStep-", *_old("bizstep"))
DISPOSITION: Final = Vocabulary("disposition", DISPOSITIONS, CBV + "Disp-", *_old("disp"))
BIZ_TRANSACTION_TYPE: Final = Vocabulary("business transaction type", BIZ_TRANSACTION_TYPES, CBV + "BTT-", *_old("btt"))
SOURCE_DEST_TYPE: Final = Vocabulary("source or destination type", SOURCE_DEST_TYPES, CBV + "SDT-", *_old("sdt"))
ERROR_REASON: Final = Vocabulary("error reason", ERROR_REASONS, CBV + "ER-", *_old("er"))
COMPONENT: Final = Vocabulary("component", COMPONENTS, CBV + "Comp-", *_old("comp"))
MEASUREMENT_TYPE: Final = Vocabulary("measurement type", MEASUREMENT_TYPES, GS1_VOC, *_OLD_VOC)
SENSOR_ALERT_TYPE: Final = Vocabulary("sensor alert", SENSOR_ALERT_TYPES, GS1_VOC, *_OLD_VOC)

# The context of the standard's own words.
STANDARD_CONTEXT: Final = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"
# Documents of JSON-LD contexts that are known here; they are never fetched.
KNOWN_CONTEXTS: Final = frozenset(
    {
        "https://ref.gs1.org/standards/epcis/epcis-context.jsonld",
        STANDARD_CONTEXT,
        "https://ref.gs1.org/standards/epcis/2.0.1/epcis-context.jsonld",
        "https://ref.gs1.org/standards/epcis/2.0/epcis-context.jsonld",
        "https://gs1.github.io/EPCIS/epcis-context.jsonld",
        "https://gs1.github.io/EPCIS/epcis-context-simple.jsonld",
        "https://id.gs1.org/epcis-context.jsonld",
        "https://dev.epcis.io/context",
        "https://origintrail.github.io/epcis/epcis-context.jsonld",
    }
)
# Contexts of a document or an event, and terms that they define together; all of them are kept with every event.
MAX_CONTEXTS: Final = 50
MAX_TERMS: Final = 200
# Prefixes that the standard's context defines (the event hash of CBV 2.0 uses these spellings).
STANDARD_PREFIXES: Final = {
    "epcis": "https://ref.gs1.org/epcis/",
    "cbv": CBV,
    "gs1": GS1_VOC,
    "cbvmda": "urn:epcglobal:cbv:mda",
}
