"""Public tables with shape rules known beforehand, for `benchmarks.tables`.

Every rule is written down with its reason: a law, an identity, or what economics,
physics or medicine holds. The rules were chosen from the columns' meaning alone, before
any fit to a table here; no fit and no correlation was looked at. A rule holds with all
other columns fixed. A column of which nothing is certain has none.

The tables are read from wheels, which hold them as CSV:

    pip download --no-deps -d benchmarks/data pygam==0.9.1 islp==0.6.0

Engel's table is jaxcon's own, two come with scikit-learn, and two lie in
../shared/data/monotone where the project has it. None has more than 10,000 rows; all
are used. A table that two sources have is used once: pyGAM's Wage and Default are those
of ISLP, whose Auto is the "auto" of the papers on monotone networks.
"""

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcon import examples

Bounds = tuple[float | None, float | None]
CLIP = 1e-6  # of probabilities and of the means of counts
MONOTONE = Path(__file__).parents[2] / "shared/data/monotone"
# Wheel and its folder of CSV files.
SOURCES = {"pygam": ("pygam-0.9.1", "datasets"), "ISLP": ("islp-0.6.0", "data")}


class TableTask(NamedTuple):
    """Table, what to predict from it, and the rules that the prediction must obey.

    Attributes:
        name: short.
        X: pandas DataFrame: numbers as float64, categories as dtype "category", missing
            values kept.
        y: target, (n,): numbers, 0 and 1 where binary, counts where Poisson.
        kind: "regression", "binary" or "poisson".
        monotone: column -> 1 where the prediction must not fall, -1 where not rise.
        convex: columns along each of which it must be convex.
        concave: columns along each of which it must be concave.
        bounds: lowest and highest value, None on a side without; None without bounds.
        reason: of the rules.
    """

    name: str
    X: Any
    y: Any
    kind: str
    monotone: dict[str, int]
    convex: tuple[str, ...]
    concave: tuple[str, ...]
    bounds: Bounds | None
    reason: str


def loss(kind: str, y: np.ndarray, values: np.ndarray) -> float:
    """Computes the root mean square error, log loss or mean Poisson deviance."""
    if kind == "regression":
        return float(np.sqrt(np.mean((values - y) ** 2)))
    if kind == "binary":
        p = np.clip(values, CLIP, 1.0 - CLIP)
        return float(-np.mean(y * np.log(p) + (1.0 - y) * np.log(1.0 - p)))
    mean = np.maximum(values, CLIP)
    ratio = np.where(y > 0, y, mean) / mean
    return float(2.0 * np.mean(y * np.log(ratio) - y + mean))


def read(folder: Path, source: str, name: str) -> Any:
    """Reads a CSV file out of a wheel.

    Args:
        folder: with the wheels.
        source: of `SOURCES`.
        name: of the file, without ".csv".

    Returns:
        A DataFrame, without R's row numbers.

    Raises:
        FileNotFoundError: the wheel is not there.
    """
    import pandas as pd  # pyright: ignore[reportMissingImports]

    prefix, inside = SOURCES[source]
    found = folder.glob("*.whl") if folder.is_dir() else ()
    wheels = [wheel for wheel in found if wheel.name.lower().startswith(prefix)]
    if not wheels:
        how = f"pip download --no-deps -d {folder} pygam==0.9.1 islp==0.6.0"
        raise FileNotFoundError(f"no wheel {prefix}*.whl in {folder}: {how}")
    with zipfile.ZipFile(wheels[0]) as archive:
        table = pd.read_csv(io.BytesIO(archive.read(f"{source}/{inside}/{name}.csv")))
    return table.drop(columns="Unnamed: 0", errors="ignore")


def _task(
    name: str,
    table: Any,
    target: Any,
    reason: str,
    kind: str = "regression",
    *,
    leave: Iterable[str] = (),
    categories: Iterable[str] = (),
    rising: Iterable[str] = (),
    falling: Iterable[str] = (),
    convex: tuple[str, ...] = (),
    concave: tuple[str, ...] = (),
    bounds: Bounds | None = None,
) -> TableTask:
    """Makes a task of a table.

    `target` is a column or the values. Columns of text are categories, and so are the
    columns of numbers in `categories`; those in `leave` are no inputs. The prediction
    must not fall along `rising` and not rise along `falling`.
    """
    if isinstance(target, str):
        leave, target = (*leave, target), table[target]
    table = table.drop(columns=list(leave)).reset_index(drop=True)
    for column in table:
        if table[column].dtype.kind not in "biuf" or column in categories:
            table[column] = table[column].astype(str).astype("category")
        else:
            table[column] = table[column].astype(float)
    monotone = dict.fromkeys(rising, 1) | dict.fromkeys(falling, -1)
    y, why = np.asarray(target, float), " ".join(reason.split())
    return TableTask(name, table, y, kind, monotone, convex, concave, bounds, why)


def _ranks(column: Any, *levels: str) -> Any:
    """Numbers the levels of a column from 0 on, in the given order."""
    return column.map({level: float(rank) for rank, level in enumerate(levels)})


def wage(folder: Path) -> TableTask:
    """Log wages of 3,000 men of the Mid-Atlantic region."""
    table = read(folder, "ISLP", "Wage")
    table["education"] = _ranks(table["education"], *sorted(set(table["education"])))
    table["health"] = _ranks(table["health"], "1. <=Good", "2. >=Very Good")
    why = """Human capital: schooling and health raise earnings, and log earnings are
    concave in age (Mincer 1974, Grossman 1972)."""
    return _task(
        *("wage", table, "logwage", why),
        leave=("region", "wage"),
        rising=("education", "health"),
        concave=("age",),
    )


def mcycle(folder: Path) -> TableTask:
    """Head acceleration after an impact, by time."""
    why = "No rule is known: an impact swings both ways. Fitted without rules."
    return _task("mcycle", read(folder, "pygam", "mcycle"), "accel", why)


def hepatitis(folder: Path) -> TableTask:
    """Past hepatitis A infection of 850 Bulgarians, by age; one row a person."""
    import pandas as pd  # pyright: ignore[reportMissingImports]

    table = read(folder, "pygam", "hepatitis_A_bulgaria").to_numpy()
    age, positive, negative = table[:, 0], table[:, 1], table[:, 2] - table[:, 1]
    ages = np.concatenate([np.repeat(age, positive), np.repeat(age, negative)])
    y = np.repeat([1.0, 0.0], [positive.sum(), negative.sum()])
    why = """Antibodies are for life, so the share ever infected cannot fall with age
    where the disease is endemic (Keiding 1991)."""
    table = pd.DataFrame({"age": ages})
    return _task("hepatitis", table, y, why, "binary", rising=("age",))


def head(folder: Path) -> TableTask:
    """Head circumference of 7,040 Dutch boys, by age."""
    table = read(folder, "pygam", "head_circumference")
    why = "Skulls do not shrink. Not concave: growth has a spurt at puberty."
    return _task("head", table, "head", why, rising=("age",))


def chicago(folder: Path) -> TableTask:
    """Deaths in Chicago on 5,114 days, by air pollution and temperature."""
    why = """Particles, ozone and sulphur dioxide are toxic: with season and temperature
    held, more of them does not save lives."""
    rising = ("pm10median", "pm25median", "o3median", "so2median")
    table = read(folder, "pygam", "chicago")
    return _task("chicago", table, "death", why, "poisson", rising=rising)


def coal(folder: Path) -> TableTask:
    """Coal-mining disasters in Britain, by year, 1851 to 1962."""
    import pandas as pd  # pyright: ignore[reportMissingImports]

    years = np.arange(1851, 1963)
    found = np.floor(read(folder, "pygam", "coal")["date"]).astype(int)
    counts = found.value_counts().reindex(years, fill_value=0)
    why = "Safety laws, inspection and ventilation only grew stricter in this time."
    table = pd.DataFrame({"year": years})
    return _task("coal", table, counts, why, "poisson", falling=("year",))


def faithful(folder: Path) -> TableTask:
    """Wait until Old Faithful's next eruption, by the length of the last."""
    why = "A longer eruption empties more, which takes longer to fill and to heat."
    table = read(folder, "pygam", "faithful")
    return _task("faithful", table, "waiting", why, rising=("eruptions",))


def trees(folder: Path) -> TableTask:
    """Timber volume of 31 black cherry trees."""
    why = """A trunk lies between a cone and a cylinder, whose volume is proportional to
    girth squared times height; it is not negative."""
    return _task(
        *("trees", read(folder, "pygam", "trees"), "Volume", why),
        rising=("Girth", "Height"),
        convex=("Girth",),
        bounds=(0.0, None),
    )


def default(folder: Path) -> TableTask:
    """Default of 10,000 customers on their credit cards (simulated)."""
    table = read(folder, "pygam", "default")
    table["default"] = table["default"] == "Yes"
    why = """Credit scoring: more debt at one income, or less income at one debt, does
    not make a default less probable."""
    return _task(
        *("default", table, "default", why, "binary"),
        rising=("balance",),
        falling=("income",),
    )


def cake(folder: Path) -> TableTask:
    """Angle at which chocolate cakes break; 15 replicates of three recipes."""
    why = """A hotter oven bakes in less time and leaves the crumb more tender, so that
    it bends further."""
    return _task(
        *("cake", read(folder, "pygam", "cake"), "angle", why),
        leave=("temp",),
        categories=("replicate",),
        rising=("temperature",),
    )


def blood(folder: Path) -> TableTask:
    """Systolic blood pressure of 500 adults, by smoking and weight class."""
    why = "Medicine: excess weight raises blood pressure. None for smoking: disputed."
    table = read(folder, "pygam", "blood1")
    return _task("blood", table, "SystolicBP", why, rising=("Overwt",))


def auto(folder: Path) -> TableTask:
    """Miles per gallon of 392 cars, 1970 to 1982."""
    why = """Mass, power and displacement cost fuel. Fuel per mile is linear in mass, so
    miles per gallon, its inverse, are convex in it."""
    return _task(
        *("auto", read(folder, "ISLP", "Auto"), "mpg", why),
        leave=("name",),
        categories=("origin",),
        falling=("weight", "horsepower", "displacement"),
        convex=("weight",),
    )


def carseats(folder: Path) -> TableTask:
    """Sales of child car seats in 400 stores (simulated)."""
    table = read(folder, "ISLP", "Carseats")
    table["ShelveLoc"] = _ranks(table["ShelveLoc"], "Bad", "Medium", "Good")
    why = """Demand falls in the own price and rises in a rival's, in income, in the
    shelf's quality and, with diminishing returns, in advertising."""
    return _task(
        *("carseats", table, "Sales", why),
        rising=("CompPrice", "Income", "Advertising", "ShelveLoc"),
        falling=("Price",),
        concave=("Advertising",),
        bounds=(0.0, None),
    )


def credit(folder: Path) -> TableTask:
    """Balance on the credit cards of 400 customers (simulated)."""
    why = """A limit caps the balance, so a higher one allows more; at one limit, income
    pays debt off. A balance is not negative. None for the rating, which goes with the
    limit."""
    return _task(
        *("credit", read(folder, "ISLP", "Credit"), "Balance", why),
        leave=("ID",),
        rising=("Limit",),
        falling=("Income",),
        bounds=(0.0, None),
    )


def bikeshare(folder: Path) -> TableTask:
    """Bicycles hired in Washington in each of 8,645 hours."""
    table = read(folder, "ISLP", "Bikeshare")
    levels = ("clear", "cloudy/misty", "light rain/snow", "heavy rain/snow")
    table["weathersit"] = _ranks(table["weathersit"], *levels)
    why = """Rain, wind and damp keep riders away. None for temperature: so do heat and
    cold."""
    return _task(
        *("bikeshare", table, "bikers", why, "poisson"),
        leave=("casual", "registered"),
        categories=("season", "hr", "weekday"),
        falling=("weathersit", "windspeed", "hum"),
    )


def hitters(folder: Path) -> TableTask:
    """Log salary of 263 baseball players."""
    table = read(folder, "ISLP", "Hitters").dropna(subset=["Salary"])
    table["Salary"] = np.log(table["Salary"])
    year = ("Hits", "HmRun", "Runs", "RBI", "Walks")
    career = ("CHits", "CHmRun", "CRuns", "CRBI", "CWalks")
    why = """Clubs pay for what wins games: hits, runs and walks of the year and of the
    career, few errors. Log earnings are concave in experience (Mincer 1974)."""
    return _task(
        *("hitters", table, "Salary", why),
        rising=year + career,
        falling=("Errors",),
        concave=("Years",),
    )


def tuition(folder: Path) -> TableTask:
    """Out-of-state tuition of 777 colleges."""
    why = """Tuition pays for instruction: it rises with spending on students, local
    prices (board) and quality, and falls with students per teacher."""
    return _task(
        *("tuition", read(folder, "ISLP", "College"), "Outstate", why),
        rising=("Room.Board", "Expend", "perc.alumni", "Grad.Rate"),
        falling=("S.F.Ratio",),
        bounds=(0.0, None),
    )


def graduation(folder: Path) -> TableTask:
    """Graduation rate of 777 colleges, percent; the one above 100 is set to 100."""
    table = read(folder, "ISLP", "College")
    table["Grad.Rate"] = table["Grad.Rate"].clip(upper=100)
    why = """Better prepared students, content alumni and smaller classes go with more
    degrees. A rate lies between 0 and 100 percent."""
    return _task(
        *("graduation", table, "Grad.Rate", why),
        rising=("Top10perc", "Top25perc", "perc.alumni"),
        falling=("S.F.Ratio",),
        bounds=(0.0, 100.0),
    )


def juice(folder: Path) -> TableTask:
    """Choice of Minute Maid over Citrus Hill, 1,070 purchases."""
    table = read(folder, "ISLP", "OJ")
    rising = ("PriceCH", "DiscMM", "SpecialMM")
    falling = ("PriceMM", "DiscCH", "SpecialCH", "LoyalCH")
    why = """Demand falls in the own price and rises in the rival's; discounts and
    offers work like lower prices; loyalty keeps. Columns that are functions of these
    are left out."""
    return _task(
        "juice",
        table[[*rising, *falling, "WeekofPurchase", "StoreID"]],
        table["Purchase"] == "MM",
        *(why, "binary"),
        categories=("StoreID",),
        rising=rising,
        falling=falling,
    )


def caravan(folder: Path) -> TableTask:
    """Purchase of a caravan policy by 5,822 customers; 85 inputs."""
    table = read(folder, "ISLP", "Caravan")
    table["Purchase"] = table["Purchase"] == "Yes"
    why = """A caravan needs a car that tows it (class of premium for car policies) and
    must be paid for (class of purchasing power)."""
    return _task(
        *("caravan", table, "Purchase", why, "binary"),
        categories=("MOSTYPE", "MOSHOOFD"),
        rising=("PPERSAUT", "MKOOPKLA"),
    )


def nyse(folder: Path) -> TableTask:
    """Log trading volume on 6,050 days, by the day before."""
    table = read(folder, "ISLP", "NYSE")
    before = table[["DJ_return", "log_volume", "log_volatility"]].shift(1)
    inputs = before.assign(day_of_week=table["day_of_week"])[1:]
    why = """Stylised facts: volume persists, and it rises with volatility (Karpoff
    1987)."""
    rising = ("log_volume", "log_volatility")
    return _task("nyse", inputs, table["log_volume"][1:], why, rising=rising)


def publication(folder: Path) -> TableTask:
    """Publication of 244 clinical trials."""
    why = """Publication bias: positive results and large trials are published rather.
    Time and impact are known afterwards only and left out."""
    return _task(
        *("publication", read(folder, "ISLP", "Publication"), "status", why, "binary"),
        leave=("time", "impact"),
        rising=("posres", "sampsize"),
    )


def diabetes(folder: Path) -> TableTask:
    """Progression of diabetes in 442 patients within a year."""
    from sklearn.datasets import load_diabetes

    bunch: Any = load_diabetes(as_frame=True, scaled=False)
    why = """Medicine: weight, blood pressure, triglycerides (s5) and glucose (s6) are
    risks, HDL cholesterol (s3) protects."""
    return _task(
        *("diabetes", bunch.frame, "target", why),
        categories=("sex",),
        rising=("bmi", "bp", "s5", "s6"),
        falling=("s3",),
    )


def cancer(folder: Path) -> TableTask:
    """Malignancy of 569 breast tumours by 30 measures of their cells' nuclei."""
    from sklearn.datasets import load_breast_cancer

    bunch: Any = load_breast_cancer(as_frame=True)
    table = bunch.frame.rename(columns=lambda name: name.replace(" ", "_"))
    table["target"] = 1 - table["target"]
    sizes = ("radius", "perimeter", "area", "concavity", "concave_points")
    rising = [f"{which}_{size}" for which in ("mean", "worst") for size in sizes]
    why = "Cytology: large nuclei with dented outlines are the signs of malignancy."
    return _task("cancer", table, "target", why, "binary", rising=rising)


def engel(folder: Path) -> TableTask:
    """Food expenditure of 235 Belgian households, by income."""
    import pandas as pd  # pyright: ignore[reportMissingImports]

    return _task(
        "engel",
        pd.read_csv(Path(examples.__file__).with_name("engel.csv")),
        "foodexp",
        "Engel's law: food expenditure rises with income, its share falls.",
        rising=("income",),
        concave=("income",),
        bounds=(0.0, None),
    )


def _monotone(name: str) -> Any:
    """Reads the training and test rows of a table of the monotone networks' papers."""
    import pandas as pd  # pyright: ignore[reportMissingImports]

    parts = [pd.read_csv(MONOTONE / f"{part}_{name}.csv") for part in ("train", "test")]
    return pd.concat(parts)


def heart(folder: Path) -> TableTask:
    """Heart disease of 303 patients, standardised."""
    return _task(
        *("heart", _monotone("heart"), "ground_truth"),
        "Medicine: blood pressure and cholesterol are risks; the papers' rules.",
        "binary",
        categories=("cp", "restecg", "slope", "thal"),
        rising=("trestbps", "chol"),
    )


def compas(folder: Path) -> TableTask:
    """Recidivism of 6,172 people within two years, in units of each column's range."""
    table = _monotone("compas")
    for name in ("race", "sex"):
        dummies = [column for column in table if column.startswith(f"{name}_")]
        levels = table[dummies].to_numpy().argmax(axis=1)
        table = table.drop(columns=dummies).assign(**{name: levels})
    return _task(
        *("compas", table, "ground_truth"),
        "More offences before do not make another less probable; the papers' rules.",
        "binary",
        categories=("race", "sex"),
        rising=("priors_count", "juv_fel_count", "juv_misd_count", "juv_other_count"),
    )


_PUBLIC = (
    *(wage, mcycle, hepatitis, head, chicago, coal, faithful, trees, default, cake),
    *(blood, auto, carseats, credit, bikeshare, hitters, tuition, graduation, juice),
    *(caravan, nyse, publication, diabetes, cancer, engel),
)
TABLES: dict[str, Callable[[Path], TableTask]] = {
    make.__name__: make
    for make in _PUBLIC + ((heart, compas) if MONOTONE.is_dir() else ())
}
