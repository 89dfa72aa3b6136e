"""The demo model's words in Chinese, and how a Chinese prompt is cut into them. Standard library only.

Each Chinese word stands for one English word, which is then read as if it had been written. Chinese has no spaces, so
the longest known word wins.
"""

import re
from collections.abc import Iterator, Mapping


def _each(groups: Mapping[str, str]) -> dict[str, str]:
    """Map each Chinese word of the values to its English key."""
    return {word: english for english, words in groups.items() for word in words.split()}


_COLORS = {
    "red": "红 红色",
    "orange": "橙 橙色 橘色 橘黄色 橘红色",
    "yellow": "黄 黄色",
    "green": "绿 绿色",
    "blue": "蓝 蓝色",
    "purple": "紫 紫色",
    "white": "白 白色",
    "black": "黑 黑色",
    "gray": "灰 灰色",
    "pink": "粉 粉色 粉红 粉红色",
    "crimson": "深红 深红色 大红 大红色",
    "golden": "金色 金黄 金黄色",
    "brown": "棕色 褐色 咖啡色",
    "silver": "银色 银白色",
    "cyan": "青色 天蓝 天蓝色 浅蓝色",
    "navy": "深蓝 深蓝色",
    "emerald": "翠绿 翠绿色 深绿色 浅绿色",
    "violet": "紫罗兰色",
}
_SHAPES = {
    "circle": "圆 圆形 圆圈",
    "ball": "球 圆球 小球 球体",
    "dot": "圆点 点",
    "disc": "圆盘",
    "balloon": "气球",
    "sun": "太阳",
    "moon": "月亮",
    "planet": "行星 星球",
    "star": "星星 星",
    "apple": "苹果",
    "football": "足球",
    "basketball": "篮球",
    "bird": "鸟 小鸟",
    "fish": "鱼 小鱼",
    "cat": "猫 小猫",
    "dog": "狗 小狗",
    "person": "人",
    "woman": "女人",
    "man": "男人",
    "girl": "女孩",
    "boy": "男孩",
    "wheel": "轮子 车轮",
    "square": "正方形 方形 方块 方",
    "box": "盒子 箱子",
    "cube": "正方体 立方体",
    "rectangle": "长方形 矩形",
    "dice": "骰子",
    "house": "房子 房屋",
    "car": "汽车 小汽车 车",
    "bus": "公交车",
    "truck": "卡车",
    "robot": "机器人",
    "book": "书",
    "triangle": "三角形 三角",
    "pyramid": "金字塔",
    "cone": "圆锥",
    "tent": "帐篷",
    "boat": "船 小船",
    "sailboat": "帆船",
    "rocket": "火箭",
    "plane": "飞机",
    "tree": "树 大树",
    "kite": "风筝",
}
_PLACES = {
    "sky": "天空 蓝天 天",
    "sea": "大海 海 海面 海洋",
    "lake": "湖 湖面",
    "water": "水 水面 水里",
    "grass": "草地 草坪",
    "meadow": "草原",
    "forest": "森林 树林",
    "desert": "沙漠",
    "beach": "沙滩 海滩",
    "snow": "雪 雪地",
    "cloud": "云 白云 云朵",
    "night": "夜 夜晚 夜空 黑夜",
    "space": "太空 宇宙 星空",
    "street": "街道 马路 公路 街",
    "city": "城市",
    "mountain": "山 高山",
    "sunset": "日落 夕阳 晚霞",
    "sunrise": "日出 朝霞",
}
_MOTIONS = {
    "left": "向左移 向左移动 往左移 向左 往左 朝左 左移 向左边 往左边 从右到左 从右向左 从右往左 由右向左",
    "right": "向右移 向右移动 往右移 向右 往右 朝右 右移 向右边 往右边 从左到右 从左向右 从左往右 由左向右",
    "up": "上升起 向上移 向上移动 向上 往上 朝上 上升 升起 升 上移 从下到上 从下向上 从下往上",
    "down": "向下移 向下移动 向下 往下 朝下 下降 下落 落下 掉下 掉落 降落 坠落 下移 掉 落 从上到下 从上向下 从上往下",
    "still": "静止 静止不动 不动 停 停着 停止 停留 站 站着 坐 坐着 睡觉",
    "bounces": "弹跳 弹 跳 跳动 跳跃 蹦 蹦跳 弹来弹去 跳来跳去",
    "orbits": "转圈 绕圈 打转 旋转 转动 转 画圈 盘旋 绕着圈 绕圈子 兜圈子",
    "grows": "变大 放大 长大 增大 膨胀 越来越大",
    "shrinks": "变小 缩小 收缩 越来越小",
    "moves": "移动 运动 走 跑 奔跑 开 行驶 驶 滑 滑动 滑行 滚 滚动 游 前进 过去",
    "flies": "飞 飞行 飞翔 飘 飘动 漂 漂浮",
}
_OTHERS = {
    "big": "大 巨大 很大 大大",
    "small": "小 微小 很小 小小",
    "slowly": "慢 慢慢 慢慢地 缓慢 缓慢地 缓缓 缓缓地 慢速 轻轻",
    "quickly": "快 快速 快速地 迅速 迅速地 飞快 飞快地 飞速 很快",
    "background": "背景 底色 底",
    "canvas": "画布",
    "ground": "地面 地上",
    "wall": "墙 墙面",
    "on": "在",
    "and": "和 与 及 以及 还有 跟",
    # Words that decide nothing.
    "": """
        一个 一只 一颗 一辆 一架 一棵 一艘 一座 一块 一枚 一条 一位 一片 一 个 只 颗 辆 架 棵 艘 座 块 枚 条 位 片
        的 地 得 了 着 上 上面 上方 里 里面 中 中间 下 有 是 从 到 往 向 朝 它 他 她 并 并且 且 然后 正 正在
        不断 不断地 一直 前 前面 旁边 边 画面 面 来回 逐渐 渐渐 这 那 其 而 也 都 又 会 被 把 让
    """,
}
WORDS: dict[str, str] = _each({**_COLORS, **_SHAPES, **_PLACES, **_MOTIONS, **_OTHERS})
"""Chinese word → English word that `app.catalog.demo_terms` reads; empty for words that decide nothing."""

_LONGEST = max(map(len, WORDS))
_COLOR_WORDS = sorted((word for words in _COLORS.values() for word in words.split()), key=len, reverse=True)
_BACKDROP_IS = re.compile(rf"(?:背景颜色|背景色|背景|底色|天空)(?:是|为|用|：|:)?({'|'.join(_COLOR_WORDS)})的?")


def name_backdrop(prompt: str) -> str:
    """Return a prompt in which `背景是绿色的` is written as `在绿色背景上`, where the colour comes first."""
    return _BACKDROP_IS.sub(r"在\1背景上", prompt)


def is_chinese(word: str) -> bool:
    """Return whether a word of letters has a Chinese character."""
    return any("\u3400" <= char <= "\u9fff" for char in word)


def cut(text: str) -> Iterator[tuple[str, str]]:
    """Yield each Chinese word of a text without spaces with its English word.

    What is not known comes as (text, text), so that it can be reported; words that decide nothing are left out.
    """
    start = at = 0
    while at < len(text):
        length = next((size for size in range(_LONGEST, 0, -1) if text[at : at + size] in WORDS), 0)
        if not length:
            at += 1
            continue
        if start < at:
            yield text[start:at], text[start:at]
        word = text[at : at + length]
        if WORDS[word]:
            yield word, WORDS[word]
        at += length
        start = at
    if start < at:
        yield text[start:at], text[start:at]
