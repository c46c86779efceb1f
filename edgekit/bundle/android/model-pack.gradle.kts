// An AI pack, which Google Play delivers beside the app: at most 1.5 GB, and no code in it.
// https://developer.android.com/google/play/on-device-ai

plugins {
    id("com.android.ai-pack")
}

aiPack {
    packName.set("model_pack")
    dynamicDelivery {
        deliveryType.set("install-time")
    }
}
