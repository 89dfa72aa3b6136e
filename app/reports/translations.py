"""The words of receipts and statements in English and in Chinese, and their numbers."""

from fractions import Fraction
from typing import Literal

from pricing.exact import parse_exact

Language = Literal["en", "zh"]

WORDS: dict[str, tuple[str, str]] = {
    "receipt": ("Receipt", "收据"),
    "receipts": ("Receipts", "收据"),
    "statement": ("Statement", "对账单"),
    "number": ("No.", "编号"),
    "transfers": ("Transfers", "笔数"),
    "account": ("Account", "账户"),
    "month": ("Month", "月份"),
    "project": ("Project", "项目"),
    "all_projects": ("All projects", "全部项目"),
    "video": ("Video", "视频"),
    "videos": ("Videos", "视频数"),
    "settled_at": ("Settled", "结算时间"),
    "outcome": ("Outcome", "结果"),
    "completed": ("completed", "已完成"),
    "cancelled": ("cancelled", "已取消"),
    "failed": ("failed", "失败"),
    "expired": ("expired", "已过期"),
    "model": ("Model", "模型"),
    "ordered_as": ("ordered as", "下单名称"),
    "resolution": ("Resolution", "分辨率"),
    "mode": ("Mode", "模式"),
    "tier": ("Service tier", "服务等级"),
    "membership": ("Membership", "会员"),
    "seconds": ("Seconds", "秒数"),
    "billed_seconds": ("Billed seconds", "计费秒数"),
    "gpu_seconds": ("GPU-seconds", "GPU 秒数"),
    "waited": ("Waited (s)", "等待（秒）"),
    "list_price": ("List price", "目录价"),
    "charged": ("Charged", "实付"),
    "currency": ("Currency", "币种"),
    "total": ("Total", "合计"),
    "tax_included": ("Tax included", "含税"),
    "quoted": ("Quoted", "报价"),
    "what": ("What", "说明"),
    "rule": ("Rule", "规则"),
    "amount": ("Amount", "金额"),
    "book": ("Price book", "价格表"),
    "film": ("Film", "影片"),
    "test": ("Test: nothing is charged", "测试：不收费"),
    "waits": ("Wait by service tier", "各服务等级的等待时间"),
    "started": ("Started", "已开始"),
    "median": ("Median (s)", "中位数（秒）"),
    "p95": ("95 % within (s)", "95% 不超过（秒）"),
    "wallet": ("Wallet", "钱包"),
    "opening": ("Opening balance", "期初余额"),
    "closing": ("Closing balance", "期末余额"),
    "purchase": ("Purchases", "充值"),
    "grant": ("Grants", "赠送"),
    "regrant": ("Grants renewed", "重新赠送"),
    "capture": ("Charges", "扣费"),
    "refund": ("Refunds", "退款"),
    "correction": ("Corrections", "更正"),
    "expiry": ("Expired credit", "过期额度"),
    "replays": (
        "Computed again from its recorded inputs, this receipt gives the same bytes.",
        "按所记录的输入重新计算，本收据逐字节一致。",
    ),
}


def translate(key: str, language: Language) -> str:
    """Return a word in a language; a key without an entry is returned as it is."""
    pair = WORDS.get(key)
    return key if pair is None else pair[0 if language == "en" else 1]


def decimals(number: Fraction) -> str:
    """Return a number of seconds as a decimal of at most three digits after the point."""
    thousandths = round(parse_exact(number, "seconds") * 1000)
    return f"{thousandths // 1000}.{thousandths % 1000:03d}".rstrip("0").rstrip(".")
