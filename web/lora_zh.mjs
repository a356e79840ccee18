// Simplified Chinese for the rows of LoRA Stack and what opens beside them.
export default {
  "strength on the MODEL; drag it, or use the arrow keys or the wheel":
    "模型强度；可拖动，也可用方向键或滚轮",
  "strength on the CLIP; drag it, or use the arrow keys or the wheel":
    "CLIP强度；可拖动，也可用方向键或滚轮",
  "The same as the MODEL's until you change it.":
    "与模型强度相同，直到单独修改。",
  "strength on the MODEL":
    "模型强度",
  "strength on the CLIP":
    "CLIP强度",
  "less":
    "减小",
  "more":
    "增大",
  "trigger words":
    "触发词",
  "strengths by block":
    "分块权重",
  "remove line {}":
    "删除第 {} 行",
  "line {}":
    "第 {} 行",
  "this line cannot be followed":
    "无法理解这一行",
  "Click to choose another.":
    "点击选择另一个。",
  "Info and trigger words":
    "信息与触发词",
  "Switch off":
    "停用",
  "Switch on":
    "启用",
  "Only this one on":
    "只启用这一个",
  "Strengths by block":
    "分块权重",
  "Move up":
    "上移",
  "Move down":
    "下移",
  "Duplicate":
    "复制一行",
  "Remove":
    "删除",
  "move line {}":
    "移动第 {} 行",
  "Drag it, or press the arrow keys.":
    "拖动，或按方向键。",
  "on; click to switch it off":
    "已启用；点击停用",
  "off; click to switch it on":
    "已停用；点击启用",
  "With Alt: only this one on.":
    "按住 Alt：只启用这一个。",
  "{} on":
    "{} 启用",
  "blocks":
    "分块",
  "words: {}":
    "触发词：{}",
  "no trigger words":
    "不输出触发词",
  "what is wrong with this line":
    "这一行的问题",
  "search LoRAs":
    "搜索 LoRA",
  "Done":
    "完成",
  "LoRAs":
    "LoRA",
  "{} added":
    "已添加 {} 个",
  "the server did not answer":
    "服务器没有回应",
  "no LoRA has that in its name":
    "没有名称匹配的 LoRA",
  "… and {} more; type to find them":
    "……还有 {} 个；输入文字查找",
  "a click adds; Enter adds and closes":
    "点击添加；按 Enter 添加并关闭",
  "used last":
    "最近使用",
  "all":
    "全部",
  "bundled (the example of this pack)":
    "bundled（本节点包自带的示例）",
  "the list cannot hold this name; rename the file (no \":\" and no \" #\" in it)":
    "列表无法写入这个名称；请重命名文件（不能含“:”和“ #”）",
  "all LoRAs":
    "全部 LoRA",
  "preview of {}":
    "{} 的预览",
  "no preview":
    "没有预览",
  "what {} says of itself":
    "{} 的信息",
  "made for {}":
    "基础模型：{}",
  "the file's own":
    "恢复文件自带的词",
  "copy":
    "复制",
  "other words, with commas between":
    "其他词，用逗号隔开",
  "no trigger words are named":
    "没有给出触发词",
  "trigger words: a click chooses those that the node gives out":
    "触发词：点击选择节点要输出的词",
  "named by the file or a note beside it":
    "由文件或旁边的说明给出",
  "a tag of its training, or yours":
    "训练标签，或自己添加的词",
  "copied":
    "已复制",
  "not copied: the browser forbids it":
    "未能复制：浏览器不允许",
  "the run stopped here: {}":
    "运行在此停止：{}",
  "rows":
    "列表",
  "text":
    "文本",
  "the list as rows":
    "以列表显示",
  "the list as plain text":
    "以文本显示",
  "all on or all off":
    "全部启用或停用",
  "no LoRA in the list; what is connected is passed on as it is":
    "列表中没有 LoRA；已连接的对象原样传递",
  "comes from a link":
    "由连线输入",
  "{} of {} on":
    "已启用 {} / {}",
};
