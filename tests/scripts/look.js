// Finds texts whose contrast to what is behind them is below 4.5 (3 for large ones), texts that are cut although no dots say
// so, and a page that is wider than its window. `browser.py` has a page of the viewer run it.
() => {
  const parts = text => (text.match(/[\d.]+/g) ?? []).map(Number);
  const colour = text => {
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 1;
    const pen = canvas.getContext('2d');
    pen.fillStyle = text;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = element => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) layers.push(colour(getComputedStyle(each).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255, 1]);
  };
  const found = [];
  for (const element of document.querySelectorAll('#app *')) {
    const text = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join('');
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    if (!text || !box.width || !box.height || style.visibility === 'hidden' || element.closest('svg')) continue;
    const back = behind(element);
    const [a, b] = [light(over(colour(style.color), back)), light(back)].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) found.push(`${contrast.toFixed(2)} ${element.className}: ${text.slice(0, 40)}`);
    const isCut = element.scrollWidth > element.clientWidth + 1 && style.display !== 'inline' && style.overflowX === 'hidden' && style.textOverflow !== 'ellipsis' && element.tagName !== 'SELECT';
    if (isCut) found.push(`cut ${element.className}: ${text.slice(0, 40)}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) found.push(`overflow: ${document.documentElement.scrollWidth}`);
  return found;
}
