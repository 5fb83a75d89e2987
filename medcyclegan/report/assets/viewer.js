"use strict";
(async () => {
  const message = document.getElementById("viewer-message");
  const fail = (text) => { message.textContent = text; message.className = "warning"; };
  const volumes = JSON.parse(document.getElementById("volumes").textContent);
  if (!document.createElement("canvas").getContext("webgl2")) {
    fail("This browser has no WebGL 2, which the viewer needs. The picture below shows the same volumes.");
    return;
  }

  const bytesOf = async (volume) => {
    const inside = document.getElementById(`voxels-${volume.name}`);
    const text = inside ? inside.textContent : (window.medcycleganVoxels || {})[volume.name];
    if (!text) throw new Error(`the file ${volume.file} is missing next to this page`);
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(unpacked).arrayBuffer());
  };

  // NiiVue reads NIfTI. Its writer sets the slope to 1 and the intercept to 0, so both are set here.
  const niftiOf = async (volume) => {
    const array = niivue.NVImage.createNiftiArray(volume.shape, volume.spacing, volume.affine, 4, await bytesOf(volume));
    const header = new DataView(array.buffer, array.byteOffset);
    header.setFloat32(112, volume.slope, true);
    header.setFloat32(116, volume.intercept, true);
    return array;
  };

  const imageOf = async (volume, opacity) => niivue.NVImage.loadFromUrl({
    url: volume.nifti, name: `${volume.name}.nii`, colormap: volume.colormap, opacity,
    cal_min: volume.presets[0][1], cal_max: volume.presets[0][2],
  });

  const views = [];
  const showPlace = (mm) => {
    for (const view of views) {
      const image = view.viewer.volumes[0];
      const voxel = image.mm2vox([mm[0], mm[1], mm[2]]);
      const inside = voxel.every((v, n) => v >= 0 && v < image.dimsRAS[n + 1]);
      view.value.textContent = inside ? `${Number(image.getValue(...voxel).toPrecision(4))} ${view.volume.unit}` : "";
    }
    const sides = [["L", "R"], ["P", "A"], ["I", "S"]];
    const words = sides.map(([low, high], n) => `${Math.abs(mm[n]).toFixed(1)} ${mm[n] < 0 ? low : high}`);
    document.getElementById("place").textContent = `Crosshair at ${words.join(", ")} (mm)`;
  };
  const moveTo = (mm, except) => {
    for (const { viewer } of views) {
      if (viewer !== except) {
        viewer.scene.crosshairPos = viewer.mm2frac([mm[0], mm[1], mm[2]]);
        viewer.drawScene();
      }
    }
    showPlace(mm);
    showSlice();
  };

  const slice = document.getElementById("slice");
  let plane = 0;
  const axisOf = () => [2, 1, 0, 2][plane];
  const showSlice = () => { slice.value = views[0].viewer.scene.crosshairPos[axisOf()]; };

  const addView = async (volume, overlays) => {
    const figure = document.createElement("figure");
    const holder = document.createElement("div");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    const value = document.createElement("output");
    holder.className = "canvas";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", volume.description);
    canvas.dataset.volume = volume.name;
    caption.append(volume.label, value);
    holder.append(canvas);
    figure.append(holder, caption);
    document.getElementById("views").append(figure);
    const viewer = new niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [0.2, 0.8, 0.4, 0.8], crosshairWidth: 0.8, crosshairWidthUnit: "percent",
      isRadiologicalConvention: true, sagittalNoseLeft: true, dragAndDropEnabled: false, logLevel: "error",
      loadingText: "", isNearestInterpolation: false, multiplanarShowRender: niivue.SHOW_RENDER.NEVER,
      dragMode: niivue.DRAG_MODE.windowing, isAlphaClipDark: true,
    });
    await viewer.attachToCanvas(canvas, false);
    viewer.addVolume(await imageOf(volume, 1));
    for (const overlay of overlays) viewer.addVolume(await imageOf(overlay, 0));
    viewer.setSliceType(0);
    viewer.onLocationChange = (place) => moveTo(place.mm, viewer);
    views.push({ viewer, volume, value });
    return viewer;
  };

  try {
    for (const volume of volumes) volume.nifti = await niftiOf(volume);
    let fakeViewer = null;
    const overlays = volumes.filter((volume) => volume.overlay);
    for (const volume of volumes) {
      const viewer = await addView(volume, volume.name === "fake" ? overlays : []);
      if (volume.name === "fake") fakeViewer = viewer;
    }

    document.getElementById("planes").addEventListener("click", (event) => {
      if (!event.target.dataset.plane) return;
      plane = Number(event.target.dataset.plane);
      for (const button of event.currentTarget.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", button === event.target);
      }
      for (const { viewer } of views) viewer.setSliceType(plane);
      showSlice();
    });

    slice.addEventListener("input", () => {
      const first = views[0].viewer;
      const place = [...first.scene.crosshairPos];
      place[axisOf()] = Number(slice.value);
      moveTo(first.frac2mm(place), null);
    });

    document.querySelectorAll("select[data-kind]").forEach((select) => select.addEventListener("change", () => {
      for (const { viewer, volume } of views) {
        if (volume.kind !== select.dataset.kind) continue;
        const [, low, high] = volume.presets[Number(select.value)];
        viewer.volumes[0].cal_min = low;
        viewer.volumes[0].cal_max = high;
        viewer.updateGLVolume();
      }
    }));

    const choice = document.getElementById("overlay"), opacity = document.getElementById("opacity");
    const showOverlay = () => overlays.forEach((overlay, n) => {
      fakeViewer.setOpacity(n + 1, overlay.name === choice.value ? Number(opacity.value) : 0);
    });
    if (choice) {
      choice.addEventListener("change", showOverlay);
      opacity.addEventListener("input", showOverlay);
    }

    const start = views[0].viewer;
    moveTo(start.frac2mm([...start.scene.crosshairPos]), null);
    message.hidden = true;
    document.getElementById("controls").hidden = false;
    document.body.dataset.viewer = "ready";
  } catch (error) {
    fail(`The viewer could not start: ${error.message}. The picture below shows the same volumes.`);
  }
})();
